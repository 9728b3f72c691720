"""The service under many callers: the same text as alone, cancelled slots freed, and an orderly end."""

from __future__ import annotations

import time
from collections import defaultdict
from threading import Event, Thread

import pytest

from herdsman.errors import InputError
from herdsman.generation.engine import Piece
from herdsman.generation.local import LocalEngine
from herdsman.generation.sampling import Sampling
from herdsman.generation.service import Service, ServiceClosed
from tests.generation.models import random_model, small_tokenizer

TOKENIZER = small_tokenizer()
NO_STOP: frozenset[int] = frozenset()
SAMPLE = Sampling(30, temperature=1.0, seed=2, stop_ids=NO_STOP)


@pytest.fixture
def engine() -> LocalEngine:
    return LocalEngine(random_model(context_length=2000), TOKENIZER, cache_bytes=130 * 4096)


class Caller:
    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.error: Exception | None = None
        self.ended, self.begun = Event(), Event()

    def __call__(self, piece: Piece | Exception) -> None:
        if isinstance(piece, Exception):
            self.error = piece
        else:
            self.pieces.append(piece)
        self.begun.set()
        if self.error or self.pieces[-1].finish:
            self.ended.set()

    @property
    def ids(self) -> list[int]:
        return [id for piece in self.pieces for id in piece.ids]


def idle(service: Service) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        stats = service.stats()
        if not stats["running"] and not stats["waiting"]:
            return True
        time.sleep(0.01)
    return False


def test_many_threads_get_what_each_would_get_alone(engine: LocalEngine) -> None:
    service = Service(engine)
    prompts = [[number, 5, 6] for number in range(12)]
    callers = [Caller() for _ in prompts]
    direct: dict[int, list[int]] = defaultdict(list)

    def stream(row: int) -> None:
        direct[row] = [id for piece in engine.stream(prompts[row], SAMPLE, row) for id in piece.ids]

    threads = [Thread(target=stream, args=(row,)) for row in range(3)]
    for row, (prompt, caller) in enumerate(zip(prompts, callers, strict=True)):
        service.submit(prompt, SAMPLE, row, caller)
        if row < len(threads):
            threads[row].start()
    for caller in callers:
        assert caller.ended.wait(30)
    for thread in threads:
        thread.join(30)
    assert idle(service)
    stats = service.stats()
    assert stats["tokens_generated"] == 15 * 30
    assert stats["cache_bytes_used"] == 0
    assert stats["cache_bytes"] == 130 * 4096
    service.close()
    alone = LocalEngine(random_model(context_length=2000), TOKENIZER)
    expected = [alone.generate([prompt], SAMPLE, rows=[row])[0].ids for row, prompt in enumerate(prompts)]
    assert [caller.ids for caller in callers] == expected
    assert [direct[row] for row in range(3)] == expected[:3]


def test_a_cancelled_ticket_frees_its_slot_and_is_not_heard_of_again(engine: LocalEngine) -> None:
    service = Service(engine)
    caller = Caller()
    ticket = service.submit([1, 2], Sampling(1990, temperature=0, stop_ids=NO_STOP), 0, caller)
    assert caller.begun.wait(20)
    ticket.cancel()
    assert idle(service)
    count = len(caller.pieces)
    time.sleep(0.05)
    assert len(caller.pieces) == count
    assert not caller.ended.is_set()
    assert engine.scheduler.cache.bytes_used == 0
    ticket.cancel()
    service.close()


def test_what_cannot_be_is_said_at_once(engine: LocalEngine) -> None:
    service = Service(engine)
    with pytest.raises(InputError, match="at least one token"):
        service.submit([], SAMPLE, 0, Caller())
    service.close()
    small = Service(LocalEngine(random_model(context_length=2000), TOKENIZER, cache_bytes=4096))
    with pytest.raises(InputError, match="20 tokens of prompt and 30 new ones need 4 blocks of cache and there are 1"):
        small.submit([1] * 20, SAMPLE, 0, Caller())
    small.close()


def test_closing_lets_work_come_to_its_end_and_takes_no_more(engine: LocalEngine) -> None:
    service = Service(engine)
    callers = [Caller() for _ in range(5)]
    for row, caller in enumerate(callers):
        service.submit([row + 1], SAMPLE, row, caller)
    closing = Thread(target=service.close, args=(20,))
    closing.start()
    while not service.draining:
        time.sleep(0.001)
    with pytest.raises(ServiceClosed, match="shutting down"):
        service.submit([1], SAMPLE, 0, Caller())
    closing.join(30)
    assert all(caller.ended.is_set() for caller in callers)
    service.close()


def test_closing_at_once_ends_what_runs(engine: LocalEngine) -> None:
    service = Service(engine)
    caller = Caller()
    service.submit([1, 2], Sampling(1990, temperature=0, stop_ids=NO_STOP), 0, caller)
    assert caller.begun.wait(20)
    service.close()
    assert isinstance(caller.error, ServiceClosed)
    assert engine.scheduler.cache.bytes_used == 0


def test_a_step_that_fails_ends_those_who_wait_and_not_the_service(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(engine)
    forward = engine.runner.forward

    def broken(*arguments: object) -> None:
        raise MemoryError("none left")

    monkeypatch.setattr(engine.runner, "forward", broken)
    failed = Caller()
    service.submit([1, 2], SAMPLE, 0, failed)
    assert failed.ended.wait(20)
    assert isinstance(failed.error, MemoryError)
    monkeypatch.setattr(engine.runner, "forward", forward)
    well = Caller()
    service.submit([1, 2], SAMPLE, 0, well)
    assert well.ended.wait(20)
    assert len(well.ids) == 30
    service.close()


def test_one_who_cannot_be_told_does_not_stop_the_others(engine: LocalEngine) -> None:
    service = Service(engine)

    def gone(piece: Piece | Exception) -> None:
        raise RuntimeError("Event loop is closed")

    well = Caller()
    service.submit([3], SAMPLE, 0, gone)
    service.submit([4], SAMPLE, 1, well)
    assert well.ended.wait(20)
    assert idle(service)
    service.close()
