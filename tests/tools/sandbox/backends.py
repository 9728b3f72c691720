"""Sandboxes for tests: made once, and left out where this machine cannot have them."""

from __future__ import annotations

from functools import cache

import pytest

from herdsman.errors import HerdsmanError, MachineError
from herdsman.tools.sandbox.bubblewrap import Bubblewrap
from herdsman.tools.sandbox.choose import REFUSALS
from herdsman.tools.sandbox.sandbox import Sandbox
from herdsman.tools.sandbox.wasm import Wasm

NAMES = ("bubblewrap", "wasm")


def backend(name: str) -> Sandbox:
    """The sandbox of this name; the test is skipped where it is not installed or the kernel refuses it."""
    found = _made(name)
    if isinstance(found, str):
        pytest.skip(found)
    return found


@cache
def _made(name: str) -> Sandbox | str:
    try:
        sandbox: Sandbox = Bubblewrap() if name == "bubblewrap" else Wasm()
    except HerdsmanError as error:
        return f"{name}: {error}"
    try:
        sandbox.run("pass")
    except MachineError as error:
        if name == "bubblewrap" and any(refusal in str(error) for refusal in REFUSALS):
            return f"{name}: {error}"
        raise
    return sandbox
