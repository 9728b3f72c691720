"""The Python interpreter as a tool: a notebook in a sandbox, which lives as long as its chat.

Variables and files stay from call to call. The value of a last expression is shown, matplotlib figures come out as PNG
files, and so does whatever a call writes into its working folder.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from herdsman.options import Options
from herdsman.tools.sandbox.options import Limits
from herdsman.tools.sandbox.sandbox import Outcome, Sandbox
from herdsman.tools.tool import File, Result

FUNCTION: dict[str, Any] = {
    "name": "code_interpreter",
    "description": "Runs Python code. Variables and files stay from call to call. What is printed, the value of the "
    "last expression and figures are shown. There is no network.",
    "parameters": {
        "type": "object",
        "properties": {"code": {"type": "string", "description": "Python code"}},
        "required": ["code"],
    },
}
# Characters that would steer the terminal of whoever reads the result.
_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if code not in (9, 10)}


class InterpreterOptions(Options):
    """The interpreter of one chat."""

    limits: Limits = Field(
        Limits(memory_bytes=2 << 30, wall_seconds=60.0, processes=32, output_bytes=16 << 10),
        description="Limits of its sandbox; the time is that of one call.",
    )


NO_OPTIONS = InterpreterOptions()


class CodeInterpreter:
    """A `Tool`; see there. Not for several threads at a time."""

    name = "code_interpreter"
    function = FUNCTION

    def __init__(
        self, sandbox: Sandbox, options: InterpreterOptions = NO_OPTIONS, files: Mapping[str, bytes] | None = None
    ):
        """
        Args:
            files: to lie in the working folder when the first call begins, and again after a session is lost.
        """
        self._session, self._limits = sandbox.session(options.limits), options.limits
        self._given, self._waiting = dict(files or {}), dict(files or {})

    def add_file(self, name: str, data: bytes) -> None:
        """Puts a file of the user's into the working folder, for the next call and all after it."""
        self._given[name] = self._waiting[name] = data

    def call(self, arguments: dict[str, Any]) -> Result:
        code = arguments.get("code")
        if not isinstance(code, str):
            return Result("The argument code is missing: give it Python code as a string.", failed=True)
        outcome = self._session.run(code, self._waiting)
        self._waiting = {} if outcome.alive else dict(self._given)
        if not outcome.alive:
            return Result(
                f"{_loss(outcome, self._limits)} Variables and files are lost; the next call starts afresh.",
                failed=True,
            )
        parts = [outcome.output.translate(_CONTROLS), outcome.error.translate(_CONTROLS)]
        parts += [f"{name} is too large to hand out." for name in outcome.left_out]
        if outcome.files:
            parts.append(f"Files written: {', '.join(outcome.files)}")
        text = "\n".join(part.rstrip("\n") for part in parts if part.strip())
        made = tuple(File(name, _media_type(name), data) for name, data in outcome.files.items())
        return Result(text or "It ran without output.", made, failed=outcome.ended != "finished")

    def close(self) -> None:
        self._session.close()


def _loss(outcome: Outcome, limits: Limits) -> str:
    """Why there is no session any more, for the model to read."""
    return {
        "time": f"The code ran longer than {limits.wall_seconds:g} seconds and was stopped.",
        "memory": f"The code used more than {limits.memory_bytes >> 20} MiB of memory and was stopped.",
        "files": f"The code made more than {limits.files} files and was stopped.",
        "answer": f"The code gave back more than {limits.answer_bytes >> 20} MiB and was stopped.",
    }.get(outcome.ended, f"The interpreter ended while the code ran ({outcome.error or outcome.ended}).")


def _media_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
