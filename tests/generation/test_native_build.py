"""Building the kernel: once, whole or not at all, and never fatally."""

from __future__ import annotations

import ctypes
import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from herdsman.errors import MachineError
from herdsman.generation.native import build

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("HERDSMAN_CACHE", str(tmp_path))
    build.attempt.cache_clear()
    yield tmp_path / "native"
    build.attempt.cache_clear()


def compiler(folder: Path, script: str) -> str:
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_it_is_built_once(empty_cache: Path) -> None:
    first = build.built(build.find_compiler())
    written = first.stat().st_mtime_ns
    assert build.built(build.find_compiler()) == first
    assert first.stat().st_mtime_ns == written
    assert [path.name for path in empty_cache.iterdir()] == [first.name]


def test_other_flags_are_another_library() -> None:
    cc = build.find_compiler()
    assert build.built(cc) != build.built(cc, (*build.FLAGS, "-O0"))


def test_what_it_uses_is_told() -> None:
    library, told = build.attempt()
    assert library is not None
    assert told.startswith("native kernel (")
    assert build.attempt()[0] is library


def test_processes_that_build_at_once_do_not_disturb_each_other(empty_cache: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        paths = pool.map(build.built, [build.find_compiler()] * 2, chunksize=1)
    assert len(set(paths)) == 1
    assert [path.name for path in empty_cache.iterdir()] == [paths[0].name]
    assert ctypes.CDLL(str(paths[0])).herdsman_features() >= 0


def test_without_a_compiler_there_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    library, reason = build.attempt()
    assert library is None
    assert "no C compiler (cc, gcc, clang)" in reason
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(MachineError, match="no-such-compiler"):
        build.find_compiler()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'kernel.h:1: error: unknown type' >&2; exit 1", "unknown type"),
        ("exit 3", "ends with status 3"),
        ("kill -SEGV $$", "ends with status"),
        ("exit 0", ""),
        ('for last; do :; done; case $1 in --version) ;; *) echo "not a library" > "${last}"; esac', ""),
    ],
)
def test_a_compiler_that_fails_leaves_nothing(
    tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    monkeypatch.setenv("CC", compiler(tmp_path, script))
    library, told = build.attempt()
    assert library is None
    assert reason in told
    assert list(empty_cache.iterdir()) == []


def test_a_library_that_is_no_library_is_not_fatal(
    tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.built(build.find_compiler()).write_bytes(b"\x7fELF garbage")
    library, told = build.attempt()
    assert library is None
    assert "cannot be loaded" in told
    build.attempt.cache_clear()
    assert build.attempt()[0] is not None


def test_a_cache_folder_that_cannot_be_written_is_not_fatal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HERDSMAN_CACHE", str(tmp_path / "file"))
    library, told = build.attempt()
    assert library is None
    assert str(tmp_path / "file") in told


def test_without_openmp_it_is_built_for_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which("cc")
    monkeypatch.setenv("CC", compiler(tmp_path, f'case "$*" in *-fopenmp*) exit 1;; *) exec {real} "$@";; esac'))
    library, told = build.attempt()
    assert library is not None
    assert "OpenMP" not in told


def test_the_oldest_processor_will_do() -> None:
    """Compiled for one that has no vectors to speak of, it still runs; a process of its own, since it may not."""
    march = "-march=x86-64" if "x86_64" in build._processor() else "-O1"
    flags = (*(flag for flag in build.FLAGS if flag != "-march=native"), "-O1", march)
    path = build.built(build.find_compiler(), flags)
    code = f"import ctypes; print(ctypes.CDLL({str(path)!r}).herdsman_features() & 7)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "0"
