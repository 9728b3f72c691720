"""A running sandbox as seen from outside: a process to which requests go and from which answers come.

Nothing that comes out is trusted. Everything is bounded here: time by the clock, the size of an answer, the memory and
the files of all processes together. Whoever breaks a bound or the form of an answer is ended with all its processes.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from secrets import token_hex
from typing import IO, Any
from weakref import finalize

from herdsman.errors import MachineError
from herdsman.tools.sandbox.options import Limits
from herdsman.tools.sandbox.watch import file_count, memory_bytes, processes_under

Fields = dict[str, bytes]
LOOK_SECONDS = 0.05  # between two looks at what the processes use
START_SECONDS = 60.0  # a cold WebAssembly on a busy machine
HEADER_BYTES, MOST_FIELDS = 512, 2000


class Stopped(Exception):
    """The sandbox has ended, by a limit or by itself.

    Attributes:
        why: "time", "memory", "files", "answer" (too large), "form" (not an answer), "ended" (by itself).
        detail: what is known of it, such as an exit status.
    """

    def __init__(self, why: str, detail: str = ""):
        super().__init__(why, detail)
        self.why, self.detail = why, detail


@dataclass(frozen=True)
class Command:
    """How to start a sandbox.

    Attributes:
        inputs: contents that the command reads from descriptors; `{0}`, `{1}` in the arguments become their numbers.
        descriptors: descriptors of this process to leave open in the command.
        writable: folders to count files in, as the sandbox sees them; none: something else counts.
        watched: whether memory of all processes is added up; False: something else limits it.
    """

    arguments: list[str]
    environment: dict[str, str]
    inputs: list[bytes] = field(default_factory=list)
    descriptors: tuple[int, ...] = ()
    writable: tuple[str, ...] = ()
    watched: bool = True


@cache
def _spawner(process: int) -> ThreadPoolExecutor:
    """The thread that starts sandboxes: they die with the thread that started them, so it must live to the end."""
    return ThreadPoolExecutor(1, thread_name_prefix="sandbox-spawner")


def _spawn(command: Command) -> subprocess.Popen[bytes]:
    descriptors = []
    try:
        for content in command.inputs:
            descriptors.append(os.memfd_create("sandbox-input"))
            os.write(descriptors[-1], content)
            os.lseek(descriptors[-1], 0, os.SEEK_SET)
        return subprocess.Popen(
            [argument.format(*descriptors) if argument.startswith("{") else argument for argument in command.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=command.environment,
            cwd="/",
            bufsize=0,
            pass_fds=(*descriptors, *command.descriptors),
        )
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


class Contained:
    """One sandbox. Not for several threads at a time.

    Raises:
        MachineError: it cannot be started; the sentence holds what it said.
    """

    def __init__(
        self,
        command: Command,
        settings: Mapping[str, Any],
        limits: Limits,
    ):
        self.limits, self._command = limits, command
        self._answer = bytearray()
        self._complaint = b""
        try:
            self._process = _spawner(os.getpid()).submit(_spawn, command).result()
        except OSError as error:
            raise MachineError(f"a sandbox cannot be started ({error})") from error
        finalize(self, self._process.kill)  # also when this process ends
        for stream in self._streams():
            os.set_blocking(stream.fileno(), False)
        self._next_look = float("inf")  # before it is ready it stands with one foot on the host
        try:
            ready = self._exchange(settings, START_SECONDS)
        except Stopped as stopped:
            said = self._complaint.decode("utf-8", "replace").strip() or stopped.detail or stopped.why
            raise MachineError(f"a sandbox does not start here: {said.splitlines()[-1][:300]}") from stopped
        if "ready" not in ready:
            self.close()
            raise MachineError("a sandbox does not start here: it does not say that it is ready")
        self._next_look = time.monotonic() + LOOK_SECONDS

    def call(self, request: Mapping[str, Any]) -> Fields:
        """Sends a request (see `inside.py`) and returns the fields of its answer.

        Raises:
            Stopped: the sandbox has ended and is closed.
        """
        nonce = token_hex(16)
        bounds = {"output_bytes": self.limits.output_bytes, "answer_bytes": self.limits.answer_bytes}
        fields = self._exchange({**bounds, **request, "nonce": nonce}, self.limits.wall_seconds)
        if fields.pop("nonce", None) != nonce.encode():
            raise self._stop("form", "it answered something that was not asked")
        return fields

    def close(self) -> None:
        """Ends the sandbox with all its processes."""
        if not self.closed:
            self._process.kill()
            self._process.wait()
            for stream in self._streams():
                stream.close()

    @property
    def closed(self) -> bool:
        return self._process.returncode is not None

    @property
    def process(self) -> int:
        """The number of the process that holds all others; killing it ends them."""
        return self._process.pid

    def _streams(self) -> Iterable[IO[bytes]]:
        process = self._process
        assert process.stdin
        assert process.stdout
        assert process.stderr
        return process.stdin, process.stdout, process.stderr

    def _stop(self, why: str, detail: str = "") -> Stopped:
        self.close()
        return Stopped(why, detail)

    def _exchange(self, message: Mapping[str, Any], seconds: float) -> Fields:
        if self.closed:
            raise Stopped("ended", "it was closed")
        stdin, stdout, stderr = (stream.fileno() for stream in self._streams())
        pending = memoryview(ascii(dict(message)).encode() + b"\n")
        most = self.limits.answer_bytes + 4 * self.limits.output_bytes + (1 << 16)
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(stdin, select.POLLOUT)
        poll.register(stdout, select.POLLIN)
        poll.register(stderr, select.POLLIN)
        while True:
            now = time.monotonic()
            if now >= deadline:
                raise self._stop("time", f"{seconds:g} seconds")
            if now >= self._next_look:
                self._look()
            for descriptor, _ in poll.poll(max(1, int(1000 * min(deadline - now, LOOK_SECONDS)))):
                if descriptor == stdin:
                    try:
                        pending = pending[os.write(stdin, pending[: 1 << 16]) :]
                    except BrokenPipeError:
                        pending = pending[:0]
                    if not pending:
                        poll.unregister(stdin)
                    continue
                part = os.read(descriptor, 1 << 16)
                if descriptor == stderr:
                    self._complaint = (self._complaint + part)[-4096:]
                    if not part:
                        poll.unregister(stderr)
                    continue
                if not part:
                    raise self._ended()
                self._answer += part
                if len(self._answer) > most:
                    raise self._stop("answer", f"more than {most} bytes")
            try:
                fields, length = read_fields(self._answer)
            except ValueError as error:
                raise self._stop("form", str(error)) from None
            if length:
                del self._answer[:length]
                return fields

    def _ended(self) -> Stopped:
        """The answer stopped short: says how the process ended. bwrap reports a signal as 128 and its number."""
        try:
            status = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return self._stop("ended", "it closed its output")
        for stream in self._streams():
            self._complaint += (stream.read() or b"")[-4096:] if stream is self._process.stderr else b""
            stream.close()
        signal = status - 128 if status > 128 else -status
        return Stopped("ended", f"signal {signal}" if signal > 0 else f"exit status {status}")

    def _look(self) -> None:
        self._next_look = time.monotonic() + LOOK_SECONDS
        if not self._command.watched:
            return
        processes = processes_under(self.process)
        if memory_bytes(processes) > self.limits.memory_bytes:
            raise self._stop("memory", "of all processes together")
        if self._command.writable and file_count(processes[-1], self._command.writable) > self.limits.files:
            raise self._stop("files", f"more than {self.limits.files}")


def read_fields(data: bytes | bytearray) -> tuple[Fields, int]:
    """The fields of the first answer in the data and its length in bytes; no length if it is not complete yet.

    Raises:
        ValueError: it is not an answer.
    """
    fields: Fields = {}
    at = 0
    for _ in range(MOST_FIELDS):
        line_end = data.find(b"\n", at, at + HEADER_BYTES)
        if line_end < 0:
            if len(data) - at >= HEADER_BYTES:
                raise ValueError("a field without a beginning")
            return {}, 0
        name, _, length = bytes(data[at:line_end]).rpartition(b" ")
        if not (length.isdigit() and len(length) <= 12):
            raise ValueError("a field without a length")
        at = line_end + 1 + int(length)
        if at > len(data):
            return {}, 0
        if name == b"end":
            return fields, at
        fields[name.decode("utf-8", "replace")] = bytes(data[line_end + 1 : at])
    raise ValueError("too many fields")
