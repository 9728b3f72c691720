"""Sandboxes for tests: made once, and left out where this machine cannot have them."""

from __future__ import annotations

from functools import cache

import pytest

from herdsman.errors import HerdsmanError
from herdsman.tools.sandbox.bubblewrap import Bubblewrap
from herdsman.tools.sandbox.sandbox import Sandbox
from herdsman.tools.sandbox.wasm import Wasm

NAMES = ("bubblewrap", "wasm")


def backend(name: str) -> Sandbox:
    """The sandbox of this name, or the test is skipped with the reason."""
    found = _made(name)
    if isinstance(found, str):
        pytest.skip(found)
    return found


@cache
def _made(name: str) -> Sandbox | str:
    try:
        sandbox: Sandbox = Bubblewrap() if name == "bubblewrap" else Wasm()
        sandbox.run("pass")
    except HerdsmanError as error:
        return f"{name}: {error}"
    return sandbox
