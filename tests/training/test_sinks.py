"""What TensorBoard and Weights & Biases read of what the sinks wrote."""

from __future__ import annotations

import os
import resource
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from herdsman.errors import MachineError
from herdsman.training.metric_options import MetricOptions
from herdsman.training.sinks import (
    TENSORBOARD,
    WANDB_RUN_ID,
    TensorBoard,
    WeightsAndBiases,
    _run_id,
    label,
    open_sinks,
)


def read(folder: Path) -> dict[str, dict[int, float]]:
    """All scalars as TensorBoard itself reads them; fails where a step is there twice."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    found = {}
    for tag in events.Tags()["scalars"]:
        points = [(event.step, event.value) for event in events.Scalars(tag)]
        assert [step for step, _ in points] == sorted({step for step, _ in points}), tag
        found[tag] = dict(points)
    return found


def write(board: TensorBoard, steps: range, loss: float) -> None:
    for step in steps:
        board.write(step, {"loss": loss + step, "loss.web": 0.5, "mfu_whole": 0.25, "memory_resident_bytes": 3_000_000})


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, 0)
    write(board, range(3), 1.0)
    board.close()
    assert read(tmp_path) == {
        "training/loss": {0: 1.0, 1: 2.0, 2: 3.0},
        "loss by stream/web": dict.fromkeys(range(3), 0.5),
        "utilisation/mfu_whole": dict.fromkeys(range(3), 0.25),
        "memory/memory_resident_bytes": dict.fromkeys(range(3), 3e6),
    }


def test_no_step_is_shown_twice(tmp_path: Path) -> None:
    """Killed after step 9, resumed from a checkpoint at 6; rolled back from 11 to 8; all within a second."""
    killed = TensorBoard(tmp_path, 0)
    write(killed, range(10), 100.0)
    killed._file.flush()  # and no more: the process is gone
    with open(next(tmp_path.iterdir()), "ab") as file:
        file.write(struct.pack("<Q", 200) + b"cut")
    resumed = TensorBoard(tmp_path, 6)
    write(resumed, range(6, 12), 200.0)
    resumed.rewind(8)
    write(resumed, range(8, 13), 300.0)
    resumed.close()
    expected = {step: (100.0 if step < 6 else 200.0 if step < 8 else 300.0) + step for step in range(13)}
    assert read(tmp_path)["training/loss"] == expected
    assert len(list(tmp_path.iterdir())) == 3


def test_a_run_that_begins_anew_replaces_the_one_before(tmp_path: Path) -> None:
    for loss in (100.0, 200.0):
        board = TensorBoard(tmp_path, 0)
        write(board, range(3), loss)
        board.close()
    assert read(tmp_path)["training/loss"] == {0: 200.0, 1: 201.0, 2: 202.0}


def test_a_full_disk_is_an_error_and_not_a_hang(tmp_path: Path) -> None:
    """In a child process, whose files may not grow beyond some bytes."""
    board = TensorBoard(tmp_path, 0)
    child = os.fork()
    if not child:
        signal.alarm(20)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            write(board, range(1000), 1.0)
        except OSError:
            os._exit(7)
        os._exit(8)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_labels_group_the_charts() -> None:
    assert label("loss") == "training/loss"
    assert label("loss.web.en") == "loss by stream/web.en"
    assert label("share.web") == "share of tokens by stream/web"
    assert label("hfu_causal") == "utilisation/hfu_causal"
    assert label("tokens") == "training/tokens"
    assert label("tokens_per_second_per_device") == "speed/tokens_per_second_per_device"


def test_tensorboard_is_written_always_and_nothing_else_unasked(tmp_path: Path) -> None:
    sinks = open_sinks(MetricOptions(), tmp_path, 0, {}, print)
    assert [type(sink) for sink in sinks] == [TensorBoard]
    assert [path.name for path in tmp_path.iterdir()] == [TENSORBOARD]


def offline_points(file: Path) -> tuple[str, str, dict[int, dict[str, str]]]:
    """Id, project and points of a run's file, a log of records in LevelDB's format behind a header of 7 bytes."""
    records = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    data, place, whole = file.read_bytes(), 7, b""
    run_id = project = ""
    points = {}
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = records.Record.FromString(whole)
            whole = b""
            if record.HasField("run"):
                run_id, project = record.run.run_id, record.run.project
            if record.HasField("history"):
                items = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
                points[record.history.step.num] = items
    return run_id, project, points


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    package = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield
    package.teardown()  # it reads its environment once a process otherwise


@pytest.fixture
def offline(wandb: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.mark.usefixtures("offline")
def test_weights_and_biases_goes_on_with_the_same_run(tmp_path: Path) -> None:
    for first in (0, 4):
        _, run = open_sinks(MetricOptions(wandb_project="herd"), tmp_path, first, {"model": {"dim": 3}}, print)
        for step in range(first, first + 6):
            run.write(step, {"loss": 10.0 * first + step, "loss.web": 0.5})
        run.close()
        time.sleep(1.1)  # W&B names the files of attempts by the second
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    assert len(files) == 2
    for first, file in zip((0, 4), files, strict=True):
        run_id, project, points = offline_points(file)
        assert (run_id, project) == ((tmp_path / WANDB_RUN_ID).read_text().strip(), "herd")
        assert [points[step]["training/loss"] for step in sorted(points)] == [
            f"{10 * first + step}" for step in range(first, first + 6)
        ]
        assert all(point["loss by stream/web"] == "0.5" for point in points.values())


def test_a_run_that_begins_anew_gets_an_id_of_its_own(tmp_path: Path) -> None:
    """Under the old one, W&B would ignore all steps that the run before has had."""
    ids = [_run_id(tmp_path / "logs" / WANDB_RUN_ID, first_step) for first_step in (0, 7, 0, 3)]
    assert ids[0] == ids[1] != ids[2] == ids[3]


@pytest.mark.usefixtures("offline")
def test_a_run_goes_on_without_weights_and_biases(tmp_path: Path) -> None:
    warnings: list[str] = []
    run = WeightsAndBiases("herd", tmp_path, 0, {}, warnings.append)
    run._run.finish()  # as when its process has died
    for step in range(3):
        run.write(step, {"loss": 1.0})
    run.close()
    assert len(warnings) == 1
    assert warnings[0].startswith("Weights & Biases gets no more points")


@pytest.mark.usefixtures("wandb")
def test_no_login_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(
        MachineError, match=r"^pretrain.metrics.wandb_project: Weights & Biases does not answer: .*login"
    ):
        WeightsAndBiases("herd", tmp_path, 0, {}, print)
