"""A sandbox: somewhere to run code that nobody has read. What it can be asked, and what comes back."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from herdsman.tools.sandbox.contained import Contained, Fields, Stopped, read_fields
from herdsman.tools.sandbox.options import Limits

NO_LIMITS = Limits()
SIGXCPU = "signal 24"


@dataclass(frozen=True)
class Outcome:
    """How a run ended. All of it but `ended`'s limits comes from inside: evidence for the code's author, not proof.

    Attributes:
        ended: "finished"; "raised" an exception; "exited" with a status other than 0; else the sandbox ended it or
            ended with it, and its state is lost: "time", "memory", "files", "answer" (output or files too large to
            take), "killed" (by a signal or by itself), "form" (it wrote into the answer's channel).
        output: what it printed, cut in the middle at the limit.
        error: the traceback, or what is known of the end.
        result: the variable `result`, where the code set it to text or bytes.
        files: made or changed in the working folder, by name.
        left_out: names of files that were too large to hand out.
        seconds: by the clock.
    """

    ended: str
    output: str = ""
    error: str = ""
    result: bytes | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def alive(self) -> bool:
        """The code ended by itself, and a session goes on."""
        return self.ended in ("finished", "raised", "exited")


class Sandbox(ABC):
    """A way to contain code. `run` is for one program; `session` and `jobs` for many.

    Attributes:
        name: "bubblewrap" or "wasm".
        note: what the user should know of this machine's, such as the Python it runs; empty if nothing.
    """

    name: str
    note: str = ""

    @abstractmethod
    def start(
        self, limits: Limits, *, jobs: bool = False, modules: Mapping[str, str] | None = None, cpu_limited: bool = False
    ) -> Contained:
        """Starts an interpreter that answers requests (see `inside.py`).

        Args:
            jobs: each request in a process forked for it, that may not start others; what it writes is gone after it.
            modules: sources by name, that the interpreter imports at its start.
            cpu_limited: processor time is limited from the start, not for each job alone.

        Raises:
            MachineError: it does not start here.
        """

    def run(
        self, code: str, limits: Limits = NO_LIMITS, files: Mapping[str, bytes] | None = None, stdin: str = ""
    ) -> Outcome:
        """Runs a program in a sandbox of its own, with these files in its working folder.

        Raises:
            MachineError: the sandbox does not start here.
        """
        started = time.monotonic()
        contained = self.start(limits, cpu_limited=True)
        try:
            return ask(contained, started, code=code, stdin=stdin, files=dict(files or {}), collect=True)
        finally:
            contained.close()

    def session(self, limits: Limits = NO_LIMITS) -> Session:
        """An interpreter that keeps its variables from call to call."""
        return Session(self, limits)

    def jobs(self, limits: Limits = NO_LIMITS, modules: Mapping[str, str] | None = None) -> Jobs:
        """A server for many small calls, each apart from the others."""
        return Jobs(self, limits, modules or {})


class Session:
    """A notebook: variables and files live from call to call, until a call breaks a limit. Starts at the first call."""

    def __init__(self, sandbox: Sandbox, limits: Limits):
        self._sandbox, self._limits = sandbox, limits
        self._contained: Contained | None = None
        self._calls = 0

    def run(self, code: str, files: Mapping[str, bytes] | None = None) -> Outcome:
        """Runs code after what ran before; the value of a last expression is printed, matplotlib figures become files.

        An outcome that is not `alive` has ended the session; the next call begins a new one.
        """
        started = time.monotonic()
        self._contained = self._contained or self._sandbox.start(self._limits)
        self._calls += 1
        cell = {"code": code, "name": f"<cell {self._calls}>", "keep": True, "collect": True}
        outcome = ask(self._contained, started, **cell, files=dict(files or {}))
        if not outcome.alive:
            self.close()
        return outcome

    def close(self) -> None:
        if self._contained is not None:
            self._contained.close()
        self._contained, self._calls = None, 0


class Jobs:
    """A fork server: a warm interpreter that forks for each call, so that a call costs little and leaves nothing."""

    def __init__(self, sandbox: Sandbox, limits: Limits, modules: Mapping[str, str]):
        self._sandbox, self._limits, self._modules = sandbox, limits, dict(modules)
        self._contained: Contained | None = None

    def run(self, code: str, variables: Mapping[str, Any] | None = None, stdin: str = "", **request: Any) -> Outcome:
        """Runs a program; it may print, and set `result`, but not start processes or leave files.

        Args:
            variables: to be set before, values that Python can write as a literal.
        """
        started = time.monotonic()
        if self._contained is None:
            self._contained = self._sandbox.start(self._limits, jobs=True, modules=self._modules)
        outcome = ask(self._contained, started, code=code, stdin=stdin, variables=dict(variables or {}), **request)
        if self._contained.closed:
            self._contained = None
        return outcome

    def close(self) -> None:
        if self._contained is not None:
            self._contained.close()
        self._contained = None


def ask(contained: Contained, started: float, **request: Any) -> Outcome:
    """One call of a running sandbox, whatever comes of it, as an outcome."""
    try:
        fields = contained.call(request)
        if "job" in fields:
            fields = _job(fields)
    except Stopped as stopped:
        ended = stopped.why if stopped.why != "ended" else "time" if stopped.detail == SIGXCPU else "killed"
        return Outcome(ended, error=stopped.detail, seconds=time.monotonic() - started)

    def text(name: str) -> str:
        return fields.get(name, b"").decode("utf-8", "replace")

    ended = text("ended")
    return Outcome(
        ended if ended in ("finished", "raised", "exited") else "form",
        text("output"),
        text("error"),
        fields.get("result"),
        {name[5:]: data for name, data in fields.items() if name.startswith("file:") and _plain(name[5:])},
        tuple(name[9:] for name in fields if name.startswith("toolarge:")),
        time.monotonic() - started,
    )


def _job(fields: Fields) -> Fields:
    """The answer of a forked job, out of what its server says of it.

    Raises:
        Stopped: the job ended without one; the server goes on.
    """
    said = fields.get("status", b"").decode("ascii", "replace")
    if not said.removeprefix("-").isdecimal():
        raise Stopped("form", "a job without a status")
    status = int(said)
    if fields.get("large") == b"True":
        raise Stopped("answer", "more than the limit")
    if status:
        raise Stopped("ended", f"signal {-status}" if status < 0 else f"exit status {status}")
    try:
        answer, length = read_fields(fields["job"])
    except ValueError as error:
        raise Stopped("form", str(error)) from None
    if not length:
        raise Stopped("ended", "it left without an answer")
    return answer


def _plain(name: str) -> bool:
    """A name for a file of the working folder, not a way out of a folder it is later written to."""
    return name.isprintable() and not set(name) & set("/\\:") and name.strip(". ") != "" and len(name) < 200
