"""The process that holds a WebAssembly Python: its system interface, its limits, and its forks.

Started by `wasm.py` as a program of its own, so that it can be killed, and so that nothing of Herdsman is in it. The
guest runs `inside.py`. It reaches the world through WASI calls alone: standard input and output are handled here,
files lie in memory (`wasm_files.py`), and there is no network and no process to be had.

For jobs this process forks while the guest waits for its next request: the child goes on with a copy of the whole
guest, answers that request, and ends.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

from herdsman.tools.sandbox import inside, wasm_files

WASI = "wasi_snapshot_preview1"
WORD = (1 << 32) - 1
PR_SET_PDEATHSIG, SIGKILL = 1, 9
PAUSE_SECONDS = 0.005


class Memory:
    """The guest's memory, in a call from it. Numbers that come signed are meant without a sign."""

    def __init__(self, caller: Any):
        self.caller, self.memory = caller, caller["memory"]

    def read(self, at: int, length: int) -> bytes:
        at, length = at & WORD, length & WORD
        data = bytes(self.memory.read(self.caller, at, at + length))
        if len(data) < length:
            raise wasm_files.Refusal(wasm_files.FAULT)
        return data

    def write(self, at: int, data: bytes) -> None:
        try:
            self.memory.write(self.caller, data, at & WORD)
        except IndexError:
            raise wasm_files.Refusal(wasm_files.FAULT) from None


class Host:
    """What the guest finds where it looks for its standard input and output."""

    def __init__(self, settings: dict[str, Any], first_line: bytes):
        self.settings = settings
        self.given = first_line  # of a request, what the guest has yet to read
        self.sink = 1
        self.in_job = False

    def read_request(self) -> None:
        """The guest waits for its next request; with `fork` it goes on in a process of its own for each."""
        if self.in_job:
            os._exit(0)  # it has answered
        if self.settings["fork"]:
            self.given, self.sink = inside.next_job(sys.stdin.buffer, 1)
            self.in_job = True
            die_with_parent()
            inside.set_limits({"CPU": self.settings["cpu_seconds"], "NPROC": 0})
        else:
            self.given = sys.stdin.buffer.readline() or os._exit(0)

    def read(self, memory: Memory, vectors: int, count: int, done: int) -> None:
        if not self.given:
            self.read_request()
        read = 0
        for start, length in wasm_files.pieces(memory, vectors, count):
            part, self.given = self.given[:length], self.given[length:]
            memory.write(start, part)
            read += len(part)
        memory.write(done, struct.pack("<I", read))

    def write(self, memory: Memory, descriptor: int, vectors: int, count: int, done: int) -> None:
        written = 0
        for start, length in wasm_files.pieces(memory, vectors, count):
            data = memoryview(memory.read(start, length))
            written += length
            while data:
                data = data[os.write(self.sink if descriptor == 1 else 2, data) :]
        memory.write(done, struct.pack("<I", written))

    def pause(self, memory: Memory) -> None:
        """`sched_yield`: what the guest sleeps with (see `inside.py`)."""
        time.sleep(PAUSE_SECONDS)


def interface(linker: Any, store: Any, host: Host, files: wasm_files.Files) -> None:
    """Puts our streams, files and pauses in the place of wasmtime's."""
    calls: dict[str, Callable[..., None]] = files.calls()
    read_file, write_file = calls["fd_read"], calls["fd_write"]

    def read(memory: Memory, descriptor: int, *rest: int) -> None:
        host.read(memory, *rest) if descriptor == 0 else read_file(memory, descriptor, *rest)

    def write(memory: Memory, descriptor: int, *rest: int) -> None:
        host.write(memory, descriptor, *rest) if descriptor in (1, 2) else write_file(memory, descriptor, *rest)

    calls.update(fd_read=read, fd_write=write, sched_yield=host.pause)
    for name, call in calls.items():
        linker.define_func(WASI, name, linker.get(store, WASI, name).type(store), answering(call), access_caller=True)


def answering(call: Callable[..., None]) -> Callable[..., int]:
    """The call as WASI wants it: with an errno for an answer."""

    def answer(caller: Any, *arguments: int) -> int:
        try:
            call(Memory(caller), *arguments)
        except wasm_files.Refusal as refusal:
            return int(refusal.args[0])
        return 0

    return answer


def die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)


def main() -> None:
    line = sys.stdin.buffer.readline()
    settings = eval(line)["worker"]
    sys.path += settings["paths"]
    import wasmtime

    engine = wasmtime.Engine()
    module = wasmtime.Module.deserialize_file(engine, settings["module"])
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    linker.allow_shadowing = True
    store = wasmtime.Store(engine)
    store.set_limits(memory_size=settings["memory_bytes"], instances=1, memories=1, tables=4)
    wasi = wasmtime.WasiConfig()
    wasi.argv = ["python", "-I", "-S", "-B", "-c", settings["program"]]
    store.set_wasi(wasi)
    inside.set_limits(settings["limits"])
    if os.getuid() == 0:  # everything of root's that is needed is open, and imported, by now
        os.setgroups([])
        os.setgid(settings["nobody"])
        os.setuid(settings["nobody"])
    die_with_parent()
    inside.lock_down(ctypes.CDLL(None), settings["filter"])
    files = wasm_files.Files(settings["disk_bytes"], settings["files"])
    interface(linker, store, Host(settings, line), files)
    instance = linker.instantiate(store, module)
    start: Any = instance.exports(store)["_start"]
    try:
        start(store)
    except wasmtime.ExitTrap as end:
        os._exit(end.code & 127)
    except wasmtime.Trap as trap:  # the guest broke its machine, as by a stack without end
        os.write(2, str(trap).encode()[-500:])
        os._exit(70)
