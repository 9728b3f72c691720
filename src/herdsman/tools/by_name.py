"""Tools by the names that the command line and the server know."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from herdsman.errors import InputError
from herdsman.tools.functions import functions_in
from herdsman.tools.index import FILE, Index
from herdsman.tools.maths import SympyMaths, WolframAlpha
from herdsman.tools.sandbox.bubblewrap import Bubblewrap
from herdsman.tools.sandbox.sandbox import Sandbox
from herdsman.tools.search import BraveSearch, DocumentSearch
from herdsman.tools.tool import Tool
from herdsman.workspace import Workspace

NAMES = ("search", "maths")
BRAVE_KEY, WOLFRAM_KEY = "BRAVE_API_KEY", "WOLFRAM_APP_ID"


def make_tools(names: Sequence[str], workspace: Workspace | None = None) -> list[Tool]:
    """New tools for one chat; the caller closes them.

    Args:
        names: of `NAMES`, or Python files whose functions become tools.
        workspace: the herd whose documents are searched, where no key for Brave is set.

    Raises:
        InputError: there is no such tool, a file cannot be used, or there is nothing to search.
        MachineError: no sandbox works here.
    """
    tools: list[Tool] = []
    with ExitStack() as made:
        for name in dict.fromkeys(names):
            for tool in _make(name, workspace):
                made.callback(tool.close)
                tools.append(tool)
        made.pop_all()
    return tools


def _make(name: str, workspace: Workspace | None) -> Sequence[Tool]:
    if name == "search":
        return [_search(workspace)]
    if name == "maths":
        key = os.environ.get(WOLFRAM_KEY)
        return [WolframAlpha(key) if key else SympyMaths(_sandbox())]
    if name.endswith(".py"):
        return functions_in(Path(name))
    raise InputError(f"there is no tool {name}", do=f"choose of {', '.join(NAMES)}, or name a Python file of functions")


@cache
def _sandbox() -> Sandbox:
    """One for all chats, so that they share the interpreter that maths keeps ready."""
    return Bubblewrap()


def _search(workspace: Workspace | None) -> Tool:
    if key := os.environ.get(BRAVE_KEY):
        return BraveSearch(key)
    if workspace is None or workspace.manifest("search") is None:
        raise InputError(
            "there is nothing to search",
            where=workspace.root if workspace else None,
            do=f"raise the herd again, for its search index, or set {BRAVE_KEY} to search the web",
        )
    return DocumentSearch(Index(workspace.folder("search") / FILE))
