"""The ground every stage stands on: whole files, ordered work on processes, progress that can be read in a log."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from herdsman import progress as progress_module
from herdsman.errors import InputError, MachineError
from herdsman.files import (
    atomic_folder,
    atomic_open,
    atomic_path,
    digest_of,
    read_json,
    read_jsonl,
    sha256_file,
    write_json,
    write_jsonl,
    write_text,
)
from herdsman.parallel import available_cores, map_ordered
from herdsman.progress import Progress
from tests.items import die_at_three, refuse_three, slow_square

# Files.


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_file_that_fails_leaves_the_old_one_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    write_text(tmp_path / "file", "old")
    for write in (atomic_path, atomic_open):
        with pytest.raises(error), write(tmp_path / "file") as target:
            (target.write_bytes if write is atomic_path else target.write)(b"new, half")
            assert (tmp_path / "file").read_text() == "old"
            raise error
        assert names(tmp_path) == ["file"]
        assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_folder_that_fails_leaves_the_old_one_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    with atomic_folder(tmp_path / "model") as folder:
        write_text(folder / "deep" / "weights", "old")
    with pytest.raises(error), atomic_folder(tmp_path / "model") as folder:
        write_text(folder / "other", "new")
        raise error
    assert names(tmp_path) == ["model", "model/deep", "model/deep/weights"]
    with atomic_folder(tmp_path / "model") as folder:
        assert names(folder) == []
        write_text(folder / "other", "new")
    assert names(tmp_path) == ["model", "model/other"]


def test_leftovers_of_a_killed_process_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file.partial").write_text("a longer text than the new one")
    write_text(tmp_path / "file", "new")
    write_text(tmp_path / "model.partial" / "half", "half")
    with atomic_folder(tmp_path / "model") as folder:
        write_text(folder / "whole", "new")
    assert names(tmp_path) == ["file", "model", "model/whole"]
    assert (tmp_path / "file").read_text() == "new"


def test_a_path_that_nothing_was_written_to_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "file"):
        pass
    assert names(tmp_path) == []


def rows_with_a_gap() -> Iterator[int]:
    yield 1
    raise RuntimeError


def test_rows_and_values_that_cannot_be_written_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        write_jsonl(tmp_path / "rows.jsonl", rows_with_a_gap())
    with pytest.raises(TypeError):
        write_json(tmp_path / "value.json", {"object": object()})
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "text", "\ud800")
    assert names(tmp_path) == []


def test_json_comes_back_and_does_not_depend_on_key_order(tmp_path: Path) -> None:
    value = {"b": ["ä漢😀", 0.1, None, True], "a": {"line\u2028end": "\x00\n\r\u0085"}}
    write_json(tmp_path / "one.json", value)
    write_json(tmp_path / "two.json", dict(reversed(value.items())))
    assert read_json(tmp_path / "one.json") == value
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert sha256_file(tmp_path / "one.json") == sha256_file(tmp_path / "two.json")
    assert digest_of(value) == digest_of(dict(reversed(value.items()))) != digest_of({**value, "b": []})
    write_jsonl(tmp_path / "rows.jsonl", (value for _ in range(3)))
    assert read_jsonl(tmp_path / "rows.jsonl") == [value] * 3
    assert len((tmp_path / "rows.jsonl").read_bytes().split(b"\n")) == 4


# Ordered work. Functions that workers run must be importable, so they lie at the top of the module.


def worker(_: int) -> int:
    time.sleep(0.05)
    return os.getpid()


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    assert list(map_ordered(slow_square, iter(range(12)), workers)) == [number**2 for number in range(12)]
    assert list(map_ordered(slow_square, [], workers)) == []


def test_work_is_done_by_so_many_processes() -> None:
    assert set(map_ordered(worker, range(3), 1)) == {os.getpid()}
    workers = set(map_ordered(worker, range(12), 2))
    assert os.getpid() not in workers
    assert len(workers) <= 2
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_items_are_not_taken_before_their_time(workers: int) -> None:
    """At most two items a worker lie in memory, however many there are."""
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(40):
            taken += 1
            yield number

    for got, _ in enumerate(map_ordered(slow_square, items(), workers), 1):
        assert taken <= got + 2 * workers - 1


def test_a_dying_worker_is_a_machine_error_and_what_came_before_is_kept() -> None:
    got = []
    with pytest.raises(MachineError, match=r"a worker process died, .*run again: finished work is kept"):
        for number in map_ordered(die_at_three, range(100), 2):
            got.append(number)
    assert got == list(range(len(got)))
    assert len(got) <= 3


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_work_comes_through_whole(workers: int) -> None:
    got = []
    with pytest.raises(InputError, match=r"^item 3: is three; take another$") as caught:
        for number in map_ordered(refuse_three, range(100), workers):
            got.append(number)
    assert got == [0, 1, 2]
    assert (caught.value.what, caught.value.where, caught.value.do) == ("is three", "item 3", "take another")


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_items_comes_through(workers: int) -> None:
    with pytest.raises(RuntimeError):
        list(map_ordered(slow_square, rows_with_a_gap(), workers))


def test_results_need_not_all_be_taken() -> None:
    results = map_ordered(slow_square, iter(range(10**9)), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    started = time.monotonic()
    results.close()
    assert time.monotonic() - started < 10


# Progress.


class Clock:
    """A clock that a test moves, in the place of the `time` module."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def plain() -> tuple[Progress, io.StringIO]:
    log = io.StringIO()
    return Progress(Console(file=log, force_terminal=False, width=200)), log


def test_in_a_log_progress_is_a_plain_line_every_ten_seconds(clock: Clock) -> None:
    progress, log = plain()
    with progress.task("train", total=60, unit="steps") as task:
        for step in range(1, 61):
            clock.now += 1
            task.note(f"loss {5 - step / 20:.2f}")
            task.advance()
    assert log.getvalue().splitlines() == [
        "  train: 10/60 steps, 1.00 steps/s, 50 s left, loss 4.50",
        "  train: 20/60 steps, 1.00 steps/s, 40 s left, loss 4.00",
        "  train: 30/60 steps, 1.00 steps/s, 30 s left, loss 3.50",
        "  train: 40/60 steps, 1.00 steps/s, 20 s left, loss 3.00",
        "  train: 50/60 steps, 1.00 steps/s, 10 s left, loss 2.50",
        "  train: 60/60 steps, 1.00 steps/s, 0 s left, loss 2.00",
    ]


def test_without_a_total_there_is_no_time_left(clock: Clock) -> None:
    progress, log = plain()
    with progress.task("read", unit="pages") as task:
        for _ in range(2000):
            clock.now += 0.01
            task.advance()
    assert log.getvalue().splitlines() == ["  read: 1,000 pages, 100 pages/s", "  read: 2,000 pages, 100 pages/s"]


def test_short_work_says_nothing_and_nested_work_speaks_for_itself(clock: Clock) -> None:
    progress, log = plain()
    with progress.task("outer", total=2) as outer, progress.task("inner", total=100, unit="files") as inner:
        outer.advance()
        for _ in range(9):
            clock.now += 1
            inner.advance()
        assert log.getvalue() == ""
        clock.now += 1
        inner.advance()
    assert log.getvalue().splitlines() == ["  inner: 10/100 files, 1.00 files/s, 90 s left"]


def test_every_update_beats_the_clock_of_the_workspace(clock: Clock) -> None:
    progress, _ = plain()
    beats = []
    progress.beat = lambda: beats.append(clock.now)
    with progress.task("work", total=3) as task:
        for _ in range(3):
            task.advance()
    assert len(beats) == 3


def test_lines_are_shown_as_they_are_and_quiet_is_quiet(clock: Clock) -> None:
    progress, log = plain()
    progress.line("[bold] 1/9 pages [/nothing]")
    assert log.getvalue() == "[bold] 1/9 pages [/nothing]\n"
    silent = Progress(Console(file=log), quiet=True)
    silent.line("no")
    with silent.task("no", total=1) as task:
        clock.now += 60
        task.advance()
    assert log.getvalue().count("\n") == 1


def test_on_a_terminal_there_are_bars_that_go_away() -> None:
    log = io.StringIO()
    progress = Progress(Console(file=log, force_terminal=True, width=120))
    with pytest.raises(RuntimeError), progress.task("outer", total=2) as outer, progress.task("inner") as inner:
        assert progress.bars is not None
        assert [task.description for task in progress.bars.tasks] == ["outer", "inner"]
        outer.advance()
        inner.advance()
        progress.line("a line above the bars")
        raise RuntimeError
    assert progress.bars is None
    assert "outer" in log.getvalue()
    assert "a line above the bars" in log.getvalue()
    with progress.task("again"):
        assert progress.bars is not None


def test_answers_and_progress_do_not_mix(capsys: pytest.CaptureFixture[str]) -> None:
    Progress(Console(stderr=True, highlight=False)).line("working")
    print(json.dumps({"answer": 1}), file=sys.stdout)
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"answer": 1}
    assert captured.err == "working\n"


def test_a_full_disk_is_noticed_when_a_classifier_is_saved(tmp_path: Path) -> None:
    material = tmp_path / "material.txt"
    material.write_text("__label__a red green blue\n__label__b one two three\n" * 50)
    code = (
        "import resource, signal, sys, fasttext\n"
        "from pathlib import Path\n"
        "from herdsman.fasttext_file import save_fasttext\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"model = fasttext.train_supervised({str(material)!r}, thread=1, dim=32, bucket=999, verbose=0)\n"
        f"whole = Path({str(tmp_path)!r}) / 'whole.bin'\n"
        "save_fasttext(model, whole)\n"
        "size = whole.stat().st_size\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, size - 1))\n"
        "save_fasttext(model, whole.with_name('half.bin'))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (tmp_path / "whole.bin").exists(), result.stderr
    assert "OSError: [Errno 28]" in result.stderr
