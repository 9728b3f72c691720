"""Manifests, fingerprints, resume and atomic files: nothing half-written, nothing lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from herdsman.errors import MachineError, WorkspaceError
from herdsman.files import atomic_folder, atomic_open, read_json, write_json
from herdsman.parallel import map_ordered
from herdsman.progress import SILENT
from herdsman.workspace import Workspace


def test_atomic_open_leaves_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.bin"
    with atomic_open(target) as file:
        file.write(b"old")
    with pytest.raises(RuntimeError), atomic_open(target) as file:
        file.write(b"new, half")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]


def test_atomic_folder_appears_whole(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "model") as folder:
        (folder / "a").write_text("a")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    for text in ("first", "second"):
        with atomic_folder(tmp_path / "model") as folder:
            (folder / "a").write_text(text)
    assert (tmp_path / "model" / "a").read_text() == "second"


def stage(workspace: Workspace, fingerprint: str, needs: tuple[str, ...] = ()):
    return workspace.stage("pages", fingerprint, needs, seed=1, workers=1, progress=SILENT)


def test_a_finished_stage_stands_until_its_fingerprint_or_files_change(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "herd")
    with workspace.locked(), stage(workspace, "one") as work:
        write_json(work.out / "result.json", [1])
        write_json(work.scratch / "piece.json", [2])
        write_json(work.logs / "curve.json", [time.time()])
        work.counts["pages"] = 3
    assert workspace.stands("pages", "one")
    assert not workspace.stands("pages", "two")
    manifest = workspace.manifest("pages")
    assert list(manifest["outputs"]) == ["result.json"]
    assert manifest["counts"] == {"pages": 3}
    assert manifest["sessions"] == 1
    assert not (work.out / "scratch").exists()
    (work.out / "result.json").write_text("")
    assert not workspace.stands("pages", "one")


def test_digest_depends_on_results_only(tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        workspace = Workspace(tmp_path / name)
        with workspace.locked(), stage(workspace, "same") as work:
            write_json(work.out / "result.json", [1])
            write_json(work.logs / "time.json", [time.time_ns()])
        digests.append(workspace.manifest("pages")["digest"])
    assert digests[0] == digests[1]


def test_an_unfinished_stage_resumes_under_the_same_fingerprint_only(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for fingerprint, kept in (("one", False), ("one", True), ("two", False)):
        with pytest.raises(RuntimeError), stage(workspace, fingerprint) as work:
            assert (work.scratch / "piece.json").exists() == kept
            (work.out / "file.parquet.partial").write_text("half")
            write_json(work.scratch / "piece.json", [])
            raise RuntimeError
        assert workspace.manifest("pages") is None
    with stage(workspace, "two") as work:
        assert not (work.out / "file.parquet.partial").exists()
    assert workspace.manifest("pages")["sessions"] == 2


def test_a_damaged_manifest_counts_as_unfinished(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with stage(workspace, "one"):
        pass
    (tmp_path / "pages" / "manifest.json").write_text('{"stage": "pa')
    assert not workspace.stands("pages", "one")


def test_only_one_process_at_a_time(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with workspace.locked(), pytest.raises(WorkspaceError, match="another herdsman"), Workspace(tmp_path).locked():
        pass
    with workspace.locked():
        pass


def square(number: int) -> int:
    time.sleep(0.02 * (number % 3))
    return number * number


def die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("workers", [1, 3])
def test_map_ordered_keeps_the_order(workers: int) -> None:
    assert list(map_ordered(square, range(10), workers)) == [n * n for n in range(10)]


def test_a_dead_worker_is_one_sentence() -> None:
    with pytest.raises(MachineError, match="memory ran out"):
        list(map_ordered(die, range(8), 2))


@pytest.mark.skipif(sys.platform != "linux", reason="relies on a Linux signal at the parent's death")
def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from pathlib import Path\n"
        "from herdsman.parallel import map_ordered\n"
        "def work(folder):\n"
        "    Path(folder, str(os.getpid())).touch()\n"
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        f"    list(map_ordered(work, [{str(tmp_path / 'pids')!r}] * 2, 2))\n"
    )
    (tmp_path / "pids").mkdir()
    parent = subprocess.Popen([sys.executable, str(script)])
    deadline = time.monotonic() + 30
    while len(list((tmp_path / "pids").iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    pids = [int(path.name) for path in (tmp_path / "pids").iterdir()]
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    while any(_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in pids)


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3]
    except OSError:
        return False


def test_lock_is_gone_with_its_process(tmp_path: Path) -> None:
    def hold(ready) -> None:
        with Workspace(tmp_path).locked():
            ready.set()
            time.sleep(60)

    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=hold, args=(ready,))
    holder.start()
    assert ready.wait(20)
    with pytest.raises(WorkspaceError), Workspace(tmp_path).locked():
        pass
    holder.kill()
    holder.join()
    with Workspace(tmp_path).locked():
        assert read_json_or_none(tmp_path / "none.json") is None


def read_json_or_none(path: Path):
    return read_json(path) if path.exists() else None
