"""Data work on a Ray cluster: the same functions, the same results, and the same behaviour when something breaks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from herdsman.documents.options import DocumentsOptions
from herdsman.documents.refine import refine
from herdsman.errors import InputError, MachineError
from herdsman.pages.gather import gather
from herdsman.pages.options import PagesOptions
from herdsman.parallel import Engine, connect_ray, map_ordered
from herdsman.progress import SILENT
from herdsman.workspace import Work
from tests.items import die_at_three, refuse_three, slow_square


@pytest.fixture(scope="module")
def cluster() -> Iterator[int]:
    yield connect_ray(None, 2)
    import ray

    ray.shutdown()


def surroundings(_: int) -> tuple[int, str, str | None, bool]:
    return os.getpid(), str(Path.cwd()), os.environ.get("HERDSMAN_CACHE"), "torch" in sys.modules


def test_results_come_in_order_and_items_are_taken_in_their_time(cluster: int) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(20):
            taken += 1
            yield number

    for got, square in enumerate(map_ordered(slow_square, items(), cluster, "ray")):
        assert square == got**2
        assert taken <= got + 1 + 2 * cluster - 1
    assert taken == 20


def test_tasks_run_elsewhere_with_the_same_folder_and_settings(
    cluster: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HERDSMAN_CACHE", str(tmp_path / "cache"))
    seen = set(map_ordered(surroundings, range(4), cluster, "ray"))
    assert os.getpid() not in {pid for pid, *_ in seen}
    assert {tuple(rest) for _, *rest in seen} == {(str(tmp_path), str(tmp_path / "cache"), False)}


def test_a_folder_that_no_node_sees_is_one_sentence(
    cluster: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    results = map_ordered(slow_square, iter(range(100)), cluster, "ray")
    assert next(results) == 0
    results.close()
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(Path, "cwd", lambda: gone)
    with pytest.raises(MachineError, match=r"gone: a node of the cluster does not see this folder .*; work on storage"):
        list(map_ordered(slow_square, range(4), cluster, "ray"))
    monkeypatch.chdir(tmp_path)


def test_an_error_of_the_work_comes_through_whole(cluster: int) -> None:
    got = []
    with pytest.raises(InputError, match=r"^item 3: is three; take another$") as caught:
        for number in map_ordered(refuse_three, range(100), cluster, "ray"):
            got.append(number)
    assert got == [0, 1, 2]
    assert (caught.value.what, caught.value.where, caught.value.do) == ("is three", "item 3", "take another")


def test_many_failures_and_early_ends_in_one_process(cluster: int) -> None:
    """To cancel what is under way made Ray abort this process, within some ten of these."""
    for _ in range(40):
        with pytest.raises(InputError):
            list(map_ordered(refuse_three, range(100), cluster, "ray"))
        results = map_ordered(slow_square, range(100), cluster, "ray")
        assert next(results) == 0
        results.close()


@pytest.mark.slow
def test_a_task_that_kills_its_worker_is_a_machine_error(cluster: int) -> None:
    got = []
    with pytest.raises(MachineError, match=r"a worker process died, .*run again: finished work is kept"):
        for number in map_ordered(die_at_three, range(100), cluster, "ray"):
            got.append(number)
    assert got == [0, 1, 2]


@pytest.mark.slow
def test_ctrl_c_stops_at_once_and_leaves_no_process(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from herdsman.parallel import connect_ray, map_ordered\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # else ignored below a background shell\n"
        "def work(folder):\n"
        "    Path(folder, str(os.getpid())).touch()\n"
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        f"        list(map_ordered(work, [{str(tmp_path / 'pids')!r}] * 4, connect_ray(None, 2), 'ray'))\n"
        "    except KeyboardInterrupt:\n"
        "        sys.exit(130)\n"
    )
    (tmp_path / "pids").mkdir()
    driver = subprocess.Popen([sys.executable, str(script)])
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "pids").iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    pids = [int(path.name) for path in (tmp_path / "pids").iterdir()]
    driver.send_signal(signal.SIGINT)
    assert driver.wait(40) == 130
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_cluster_that_does_not_answer_is_one_sentence() -> None:
    script = (
        "from herdsman.errors import NetworkError\nfrom herdsman.parallel import connect_ray\n"
        "try:\n    connect_ray('127.0.0.1:1')\nexcept NetworkError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert "127.0.0.1:1: no Ray cluster answers; check machine.ray_address" in done.stdout


def test_without_ray_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MachineError, match=r"Ray is not installed; .*pip install 'herdsman\[cluster\]'"):
        connect_ray(None)


@pytest.mark.slow
def test_both_engines_give_the_same_rows(
    cluster: int, html_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages to documents, in small files so that every worker has some, here and on the cluster."""
    for module in ("refine", "corpus"):
        monkeypatch.setattr(f"herdsman.documents.{module}.ROWS_PER_WORKER", 1)
    engines: tuple[Engine, ...] = ("local", "ray")
    for engine in engines:
        folders = {name: tmp_path / engine / name for name in ("pages", "documents")}
        for folder in folders.values():
            folder.mkdir(parents=True)
        options = PagesOptions(sources=[str(html_folder)], shard_bytes=300_000)
        gather(options, Work("pages", folders["pages"], {}, 1, 2, SILENT, engine))
        pages = {"pages": folders["pages"]}
        refine(DocumentsOptions(), Work("documents", folders["documents"], pages, 1, 2, SILENT, engine))
    here, there = tmp_path / "local" / "documents", tmp_path / "ray" / "documents"
    names = sorted(path.name for path in here.iterdir() if path.is_file())
    assert len([name for name in names if name.startswith("kept-")]) > 4
    assert names == sorted(path.name for path in there.iterdir() if path.is_file())
    for name in names:
        if name.endswith(".parquet"):
            assert parquet.read_table(here / name).to_pylist() == parquet.read_table(there / name).to_pylist()
        else:
            assert (here / name).read_bytes() == (there / name).read_bytes()
