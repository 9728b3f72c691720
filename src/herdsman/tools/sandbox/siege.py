"""Runs attacks against a sandbox and says which of them it holds.

The siege lays out bait that anyone on this machine could take: a file to read, a folder to write to, listeners, a
process and a variable of the environment. What happens to the bait is looked at from outside.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from string import Template

from herdsman.errors import MachineError
from herdsman.parallel import available_cores
from herdsman.tools.sandbox.attack import PRELUDE, Attack
from herdsman.tools.sandbox.interpreter import NOBODY
from herdsman.tools.sandbox.judge import Judge
from herdsman.tools.sandbox.options import Limits
from herdsman.tools.sandbox.sandbox import Outcome, Sandbox

LIMITS = Limits(
    memory_bytes=256 << 20, cpu_seconds=1, wall_seconds=3.0, processes=16, disk_bytes=8 << 20, files=200,
    output_bytes=16 << 10, answer_bytes=1 << 20,
)  # fmt: skip
LONGEST_EVIDENCE = 300
TESTS = "assert add(1, 2) == 3\nassert add(2, 2) == 4\ndef test_more(): assert add(5, 6) == 11"


def _limits() -> Limits:
    """The limits, with more patience while other work keeps the processors busy: slowness is no breach."""
    return LIMITS.model_copy(
        update={"wall_seconds": LIMITS.wall_seconds * max(1.0, os.getloadavg()[0] / available_cores())}
    )


@dataclass(frozen=True)
class Report:
    """What came of an attack.

    Attributes:
        evidence: how it was held, or what broke; quotes what the attack printed.
    """

    attack: Attack
    held: bool
    evidence: str


class Bait:
    """What an attack may try to take; a context manager that clears it away."""

    def __enter__(self) -> Bait:
        self.token = token_hex(16)
        self.place = Path(tempfile.mkdtemp(prefix="herdsman-siege-"))
        self.place.chmod(0o755)
        self.secret, self.folder = self.place / "secret.txt", self.place / "open"
        self.secret.write_text(self.token)
        self.secret.chmod(0o644)
        self.folder.mkdir()
        self.folder.chmod(0o777)
        self.abstract = f"herdsman-{self.token[:8]}"
        self.listeners = [self._listen(address) for address in (("127.0.0.1", 0), f"\0{self.abstract}", "socket")]
        command = ["sh", "-c", "read line", self.token]
        if os.getuid() == 0:
            command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        os.environ["HERDSMAN_BAIT"] = self.token
        return self

    def __exit__(self, *_: object) -> None:
        del os.environ["HERDSMAN_BAIT"]
        self.process.kill()
        self.process.wait()
        for listener in self.listeners:
            listener.close()
        shutil.rmtree(self.place, ignore_errors=True)

    def _listen(self, address: tuple[str, int] | str) -> socket.socket:
        listener = socket.socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX)
        listener.bind(str(self.folder / address) if address == "socket" else address)
        if address == "socket":
            (self.folder / "socket").chmod(0o777)
        listener.listen()
        listener.setblocking(False)
        return listener

    def laid_out(self, code: str) -> str:
        """The program with the bait's names in their places."""
        return Template(code).safe_substitute(
            secret=self.secret, folder=self.folder, port=self.listeners[0].getsockname()[1], abstract=self.abstract,
            pid=self.process.pid, processes=LIMITS.processes, disk=LIMITS.disk_bytes, expected=f"expected-{self.token}",
        )  # fmt: skip

    def taken(self) -> str:
        """What happened to the bait; empty if nothing."""
        if {path.name for path in self.folder.iterdir()} != {"socket"} or len(list(self.place.iterdir())) != 2:
            return "it changed a folder of the host"
        if self.secret.read_text() != self.token:
            return "it changed a file of the host"
        if self.process.poll() is not None:
            return "it ended a process of the host"
        for listener in self.listeners:
            try:
                listener.accept()[0].close()
            except BlockingIOError:
                continue
            return "it reached a listener of the host"
        return ""


def besiege(sandbox: Sandbox, attacks: Iterable[Attack], aftermath: bool = True) -> Iterator[Report]:
    """Runs the attacks one after another.

    Args:
        aftermath: whether the next call must work, after each of them.

    Raises:
        MachineError: the sandbox does not start here.
    """
    judge = Judge(sandbox, _limits())
    with Bait() as bait:
        for attack in attacks:
            code = bait.laid_out(attack.code)
            if attack.kind in ("values", "tests"):
                breach, evidence = _candidate(judge, attack.kind, code, bait)
            else:
                outcomes = _outcomes(sandbox, attack.kind, code)
                breach, evidence = _breach(attack, outcomes, bait)
            breach = breach or bait.taken() or (_aftermath(sandbox, judge, attack.kind) if aftermath else "")
            yield Report(attack, not breach, (breach or evidence)[:LONGEST_EVIDENCE])
    judge.close()


def _outcomes(sandbox: Sandbox, kind: str, code: str) -> list[Outcome]:
    parts = [PRELUDE + part for part in code.split("#---")]
    if kind == "run":
        return [sandbox.run(parts[0], _limits())]
    service = sandbox.session(_limits()) if kind == "session" else sandbox.jobs(_limits())
    try:
        return [service.run(part) for part in parts]
    finally:
        service.close()


def _breach(attack: Attack, outcomes: list[Outcome], bait: Bait) -> tuple[str, str]:
    """What the outcomes tell of a breach, and what they tell at all."""
    told = "\n".join(f"{outcome.ended}: {outcome.output}{outcome.error}" for outcome in outcomes)
    content = b"".join(data for outcome in outcomes for data in (outcome.result or b"", *outcome.files.values()))
    if bait.token in told or bait.token.encode() in content:
        return "it read what is not its own", told
    for line in told.splitlines():
        if "BREACH" in line:
            return line.strip(), told
    last = outcomes[-1]
    if last.ended not in attack.ended:
        return f"it ended as {last.ended}, not {' or '.join(attack.ended)}: {last.error[-150:]}", told
    if len(last.output) > LIMITS.output_bytes + 100:
        return f"{len(last.output)} characters of output", told
    if attack.kind == "jobs" and len(outcomes) > 1 and (last.ended != "finished" or "held" not in last.output):
        return f"the job after it was disturbed: {last.ended} {last.output}{last.error}", told
    return "", told.strip() or "it ended"


def _candidate(judge: Judge, kind: str, code: str, bait: Bait) -> tuple[str, str]:
    expected = f"expected-{bait.token}"
    if kind == "tests":
        verdict = judge.tests(code, TESTS)
    else:
        verdict = judge.values(code, "add", [([1, 2], 3), ([2, 2], 4), (["", "?"], expected)])
    return f"it passed: {verdict.evidence}" if verdict.passed else "", f"{verdict.verdict}: {verdict.evidence}"


def _aftermath(sandbox: Sandbox, judge: Judge, kind: str) -> str:
    """Whether the next call still works; empty if it does."""
    if kind in ("values", "tests"):
        verdict = judge.values("def double(x): return 2 * x", "double", [([21], 42)])
        return "" if verdict.passed else f"the next verdict is wrong: {verdict.evidence}"
    outcome = sandbox.run("print(6 * 7)", _limits())
    return "" if outcome.output == "42\n" else f"the next call does not work: {outcome.ended} {outcome.error}"


def holds(sandbox: Sandbox, attacks: Iterable[Attack]) -> str:
    """What an attack broke; empty if the sandbox holds them all."""
    try:
        for report in besiege(sandbox, attacks, aftermath=False):
            if not report.held:
                return f"it does not hold against: {report.attack.name} ({report.evidence})"
    except MachineError as error:
        return str(error)
    return ""
