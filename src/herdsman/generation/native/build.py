"""Builds the kernel with the machine's own compiler for its own processor, once, and loads it."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

from herdsman.artifacts import cache_folder
from herdsman.cluster.doctor import Finding
from herdsman.errors import MachineError

SOURCES = ("product.c", "attention.c", "step.c")
HEADERS = ("kernel.h", "vectors.h")
FLAGS = (
    "-O3", "-march=native", "-std=gnu17", "-ffp-contract=fast", "-fvisibility=hidden", "-Wno-psabi", "-shared", "-fPIC",
)  # fmt: skip
BUILD_SECONDS = 300
FEATURES = {1: "AVX-512 VNNI", 2: "bfloat16 products", 4: "AMX tiles", 8: "OpenMP"}


@cache
def attempt() -> tuple[ctypes.CDLL | None, str]:
    """The kernel and what it uses of this machine, or None and the reason why there is none.

    Tried once in a process; what was built is found in the cache folder by the next.
    """
    try:
        compiler = find_compiler()
        library = _loaded(built(compiler))
    except MachineError as error:
        return None, str(error)
    except OSError as error:
        return None, f"the native kernel cannot be kept in {cache_folder()} ({error})"
    features = library.herdsman_features()
    used = [name for bit, name in FEATURES.items() if features & bit] or ["plain C"]
    return library, f"native kernel ({', '.join(used)}; built by {' '.join(compiler)})"


def findings() -> Iterator[Finding]:
    """For `herdsman doctor`: whether generation on this processor is as fast as it can be."""
    library, text = attempt()
    yield Finding("generation", "note" if library is None else "ok", text)


def find_compiler() -> list[str]:
    """The command of the C compiler: the one that $CC holds, such as `ccache gcc`, or the first that is installed.

    Raises:
        MachineError: there is none.
    """
    own = os.environ.get("CC", "").split()
    for name, *rest in [own] if own else [["cc"], ["gcc"], ["clang"]]:
        if found := shutil.which(name):
            return [found, *rest]
    names = own[0] if own else "cc, gcc, clang"
    raise MachineError(f"there is no C compiler ({names})", do="install gcc or clang to generate faster")


def built(compiler: list[str], flags: tuple[str, ...] = FLAGS) -> Path:
    """The shared library for this source, compiler and processor, built if the cache folder has none.

    It appears under its name whole or not at all, so processes that build it at once do not disturb each other.

    Raises:
        MachineError: the compiler fails.
    """
    source = files(__package__)
    digest = hashlib.sha256(repr((flags, compiler, _version(compiler), _processor())).encode())
    for name in (*HEADERS, *SOURCES):
        digest.update(source.joinpath(name).read_bytes())
    target = cache_folder() / "native" / f"{digest.hexdigest()[:32]}.so"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with as_file(source) as folder, tempfile.TemporaryDirectory(dir=target.parent) as beside:
        rest = [*flags, *(str(folder / name) for name in SOURCES), "-lm", "-o", f"{beside}/library"]
        # Without OpenMP, which some compilers lack, the kernel is the same on one thread.
        problem = _run([*compiler, "-fopenmp", *rest]) and _run([*compiler, *rest])
        if problem:
            raise MachineError(f"the native kernel cannot be built ({problem})", where=" ".join(compiler))
        Path(beside, "library").replace(target)
    return target


def _loaded(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        path.unlink(missing_ok=True)  # The next process builds it anew.
        raise MachineError(f"the native kernel cannot be loaded ({error})") from error


def _run(command: list[str]) -> str:
    """Runs a compiler; the first line of its complaint, empty if there is none."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=BUILD_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
    return lines[0] if lines else f"it ends with status {done.returncode}"


def _version(compiler: list[str]) -> str:
    try:
        return subprocess.run([*compiler, "--version"], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MachineError(f"the C compiler does not run ({error})", where=" ".join(compiler)) from error


def _processor() -> str:
    """What this processor can do: a library built on another one may not run on it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    able = sorted({line for line in lines if line.startswith(("flags", "Features", "CPU part"))})
    return repr((platform.system(), platform.machine(), platform.processor(), able))
