"""Tools by name: which one a name gives, with keys and without, and what is said where it gives none."""

from __future__ import annotations

from pathlib import Path

import pytest

from herdsman.errors import InputError, MachineError
from herdsman.files import write_json
from herdsman.tools.agent import tool_specs
from herdsman.tools.by_name import make_tools
from herdsman.tools.functions import FunctionTool
from herdsman.tools.index import build_index
from herdsman.tools.maths import SympyMaths, WolframAlpha
from herdsman.tools.search import BraveSearch, DocumentSearch
from herdsman.workspace import Workspace


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BRAVE_API_KEY", raising=False)
    monkeypatch.delenv("WOLFRAM_APP_ID", raising=False)


@pytest.fixture
def herd(tmp_path: Path) -> Workspace:
    """A workspace whose search stage is done."""
    space = Workspace(tmp_path)
    row = {"id": "1", "title": "A", "url": "u", "crawled_at": "", "licence": "", "text": "llamas hum"}
    build_index([row], space.folder("search") / "index.sqlite", 800)
    write_json(space.folder("search") / "manifest.json", {"stage": "search"})
    return space


def test_without_keys_everything_is_here(herd: Workspace, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def roll() -> int:\n    '''Rolls a die.'''\n    return 4\n")
    search, roll = make_tools(["search", str(tmp_path / "mine.py"), "search"], herd)
    assert isinstance(search, DocumentSearch)
    assert search.call({"query": "humming llamas"}).sources[0].title == "A"
    assert isinstance(roll, FunctionTool)
    specs = tool_specs([search, roll])
    assert (specs.builtin, [function["name"] for function in specs.functions]) == (("brave_search",), ["roll"])


def test_maths_is_sympys_in_the_sandbox() -> None:
    try:
        (tool,) = make_tools(["maths"])
    except MachineError as error:
        pytest.skip(str(error))
    assert isinstance(tool, SympyMaths)
    (again,) = make_tools(["maths"])
    assert isinstance(again, SympyMaths)
    assert again._sandbox is tool._sandbox, "every chat would start an interpreter of its own"


def test_keys_choose_the_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAVE_API_KEY", "key")
    monkeypatch.setenv("WOLFRAM_APP_ID", "key")
    assert [type(tool) for tool in make_tools(["search", "maths"])] == [BraveSearch, WolframAlpha]


def test_what_cannot_be_made_is_said_in_a_sentence(tmp_path: Path) -> None:
    for names, space, sentence in (
        (["serch"], None, "there is no tool serch; choose of search, maths"),
        (["search"], None, "there is nothing to search; raise the herd again"),
        (
            ["search"],
            Workspace(tmp_path),
            "nothing to search; raise the herd again, for its search index, or set BRAVE",
        ),
        ([str(tmp_path / "none.py")], None, "there is no such Python file"),
    ):
        with pytest.raises(InputError, match=sentence):
            make_tools(names, space)
