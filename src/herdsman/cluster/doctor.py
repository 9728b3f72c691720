"""What this machine can do, found out by looking: cores, memory, disk, devices, precision, sandbox, package index."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from herdsman.parallel import available_cores

NEEDED_DISK_BYTES, NEEDED_MEMORY_BYTES = 3 << 30, 4 << 30


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `state`: ok, note (works, but worth knowing) or bad (something will not work)."""

    name: str
    state: str
    text: str


def examine(workspace: Path, *others: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Looks at everything a raise needs.

    Args:
        workspace: says which disk.
        others: look at what belongs to later folders, such as the sandboxes.
    """
    version = sys.version_info[:2]
    supported = (3, 11) <= version <= (3, 13)
    yield Finding("python", "ok" if supported else "bad", f"{platform.python_version()} (3.11 to 3.13 are supported)")
    yield Finding("cores", "ok" if available_cores() >= 2 else "note", f"{available_cores()} usable")
    yield _memory()
    yield _disk(workspace)
    yield from _torch()
    for look in others:
        yield from look()
    yield _package_index()


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    state = "ok" if memory.available >= NEEDED_MEMORY_BYTES else "note"
    return Finding(
        "memory", state, f"{memory.available / 2**30:.1f} GiB free of {memory.total / 2**30:.1f}; tiny needs 4"
    )


def _disk(workspace: Path) -> Finding:
    place = workspace.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    return Finding(
        "disk", "ok" if free >= NEEDED_DISK_BYTES else "bad", f"{free / 2**30:.1f} GiB free at {place}; tiny needs 3"
    )


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        yield Finding("torch", "bad", f"cannot be imported ({error}); install with the constraints file")
        return
    recent = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) >= (2, 11)
    yield Finding("torch", "ok" if recent else "bad", f"{torch.__version__} (2.11 or newer is supported)")
    from herdsman.training.optimizer import resolve_precision

    cpu = str(resolve_precision("auto", torch.device("cpu"))).removeprefix("torch.")
    yield Finding("cpu precision", "ok", f"{cpu} ({torch.backends.cpu.get_cpu_capability()})")
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        precision = str(resolve_precision("auto", torch.device("cuda"))).removeprefix("torch.")
        yield Finding("gpu", "ok", f"{names}; {precision}")
    else:
        yield Finding("gpu", "note", "none; models run on the CPU, which is enough for tiny")


def _package_index() -> Finding:
    from herdsman.artifacts import ARTIFACTS, cached, reachable_index

    have = [name for name in ARTIFACTS if cached(ARTIFACTS[name])]
    cache = f"{len(have)} of {len(ARTIFACTS)} files of the sample and the benchmarks are cached"
    if len(have) == len(ARTIFACTS):
        return Finding("package index", "ok", cache)
    problem = reachable_index()
    if problem:
        return Finding("package index", "bad", f"{problem}; {cache}")
    return Finding("package index", "ok", f"reachable; {cache}")
