"""The process that holds a WebAssembly Python: its system interface, its limits, and its forks.

Started by `wasm.py` as a program of its own, so that it can be killed, and so that nothing of Herdsman is in it. The
guest runs `inside.py`. It reaches the world through WASI calls alone: standard input and output are handled here,
files go to one folder, which counts what is written, and there is no network and no process to be had.

For jobs this process forks while the guest waits for its next request: the child goes on with a copy of the whole
guest, answers that request, and ends.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import inside  # beside this file, which is a program's folder here

WASI = "wasi_snapshot_preview1"
BADF, NO_SPACE, NOT_PERMITTED = 8, 51, 63  # errno of WASI
CREATE = 1  # of a path_open's flags
CLOCK_EVENT = 0
PR_SET_PDEATHSIG, SIGKILL = 1, 9
MOST_SLEEP_SECONDS = 3600.0


class Folder:
    """The guest's only folder, and what it may still write there."""

    def __init__(self, path: str | None, disk_bytes: int, files: int):
        self.path, self.disk_bytes, self.files = path, disk_bytes, files
        self.measure()

    def measure(self) -> None:
        """Before each request: what earlier ones left counts, what they removed does not."""
        entries = [entry.lstat() for entry in Path(self.path).rglob("*")] if self.path else []
        self.bytes_left = self.disk_bytes - sum(entry.st_blocks * 512 for entry in entries)
        self.files_left = self.files - len(entries)

    def empty(self) -> None:
        """`rm` alone copes with trees of any depth."""
        if self.path and os.listdir(self.path):
            subprocess.run(["rm", "-rf", "--", *(str(entry) for entry in Path(self.path).iterdir())], check=True)


class Host:
    """What the guest finds where it looks for its standard input and output."""

    def __init__(self, settings: dict[str, Any], folder: Folder):
        self.settings, self.folder = settings, folder
        self.given = b""  # of a request, what the guest has yet to read
        self.sink = 1
        self.in_job = False

    def read_request(self) -> None:
        if self.in_job:
            os._exit(0)  # it has answered
        while True:
            line = sys.stdin.buffer.readline()
            if not line:
                os._exit(0)
            self.folder.measure()
            if not self.settings["fork"] or self.fork(eval(line)):
                self.given = line
                return

    def fork(self, request: dict[str, Any]) -> bool:
        """True in the job; the server sees it through, and is told False."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            os.close(0)
            os.close(1)
            self.sink, self.in_job = writing, True
            die_with_parent()
            inside.set_limits({"CPU": self.settings["cpu_seconds"]})
            return True
        os.close(writing)
        most = request["answer_bytes"] + 2 * request["output_bytes"] + 65536
        inside.relay(1, request["nonce"], reading, child, most)
        self.folder.empty()
        return False

    def fd_read(self, caller: Any, descriptor: int, vectors: int, count: int, done: int) -> int:
        if not self.given:
            self.read_request()
        memory, read = caller["memory"], 0
        for start, length in iovecs(memory, caller, vectors, count):
            part, self.given = self.given[:length], self.given[length:]
            memory.write(caller, part, start)
            read += len(part)
        memory.write(caller, struct.pack("<I", read), done)
        return 0

    def fd_write(self, caller: Any, descriptor: int, vectors: int, count: int, done: int) -> int:
        memory, written = caller["memory"], 0
        for start, length in iovecs(memory, caller, vectors, count):
            data = memoryview(memory.read(caller, start, start + length))
            written += length
            while data:
                data = data[os.write(self.sink if descriptor == 1 else 2, data) :]
        memory.write(caller, struct.pack("<I", written), done)
        return 0

    def poll_oneoff(self, caller: Any, subscriptions: int, events: int, count: int, done: int) -> int:
        """Sleeps until the first clock (wasmtime refuses those a sleep of Python's asks for)."""
        memory = caller["memory"]
        wanted = []
        for at in range(subscriptions, subscriptions + 48 * count, 48):
            subscription = bytes(memory.read(caller, at, at + 48))
            if subscription[8] == CLOCK_EVENT and not struct.unpack_from("<H", subscription, 40)[0] & 1:
                wanted.append((struct.unpack_from("<Q", subscription, 24)[0] / 1e9, subscription[:8]))
        if not wanted:
            return BADF
        seconds, user_data = min(wanted)
        time.sleep(min(seconds, MOST_SLEEP_SECONDS))
        memory.write(caller, user_data + bytes(24), events)
        memory.write(caller, struct.pack("<I", 1), done)
        return 0


def iovecs(memory: Any, caller: Any, at: int, count: int) -> list[tuple[int, int]]:
    """Starts and lengths of the pieces of memory that a read or write names."""
    raw = bytes(memory.read(caller, at, at + 8 * count))
    return [struct.unpack_from("<II", raw, 8 * index) for index in range(count)]


def interface(linker: Any, store: Any, host: Host, wasmtime: Any) -> None:
    """WASI with our standard streams, and a folder that counts."""
    folder = host.folder

    def replace(name: str, guard: Callable[..., int | None]) -> None:
        """Puts `guard` before a call: what it returns is the answer; None lets the call through."""
        original = linker.get(store, WASI, name)

        def call(caller: Any, *arguments: int) -> int:
            answer = guard(caller, *arguments)
            return int(original(caller, *arguments)) if answer is None else answer

        linker.define_func(WASI, name, original.type(store), call, access_caller=True)

    def file_write(caller: Any, descriptor: int, vectors: int, count: int, *rest: int) -> int | None:
        if descriptor in (1, 2):
            return host.fd_write(caller, descriptor, vectors, count, *rest)
        folder.bytes_left -= sum(length for _, length in iovecs(caller["memory"], caller, vectors, count))
        return NO_SPACE if folder.bytes_left < 0 else None

    def new_file(caller: Any, *arguments: int) -> int | None:
        folder.files_left -= 1
        return NO_SPACE if folder.files_left < 0 else None

    replace("fd_read", lambda caller, *rest: host.fd_read(caller, *rest) if rest[0] == 0 else None)
    replace("fd_write", file_write)
    replace("fd_pwrite", file_write)
    replace("path_open", lambda caller, *rest: new_file(caller) if rest[4] & CREATE else None)
    replace("path_create_directory", new_file)
    replace("poll_oneoff", host.poll_oneoff)
    for name in ("path_symlink", "path_link", "fd_allocate"):
        replace(name, lambda caller, *rest: NOT_PERMITTED)


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
    if settings["folder"]:
        wasi.preopen_dir(settings["folder"], "/work")
    store.set_wasi(wasi)
    inside.set_limits(settings["limits"])
    if os.getuid() == 0:  # everything of root's that is needed is open, and imported, by now
        if settings["folder"]:
            os.chown(settings["folder"], settings["nobody"], settings["nobody"])
        os.setgroups([])
        os.setgid(settings["nobody"])
        os.setuid(settings["nobody"])
    die_with_parent()
    host = Host(settings, Folder(settings["folder"], settings["disk_bytes"], settings["files"]))
    host.given = line
    interface(linker, store, host, wasmtime)
    instance = linker.instantiate(store, module)
    try:
        instance.exports(store)["_start"](store)
    except wasmtime.ExitTrap as end:
        os._exit(end.code & 127)
    except wasmtime.Trap as trap:  # the guest broke its machine, as by a stack without end
        os.write(2, str(trap).encode()[-500:])
        os._exit(70)


if __name__ == "__main__":
    main()
