"""What is shown of a reply while it is written, however its pieces are cut."""

from __future__ import annotations

import random

import pytest

from herdsman.generation.engine import Piece
from herdsman.tokens.chat import chat_format
from herdsman.tokens.messages import ToolSpecs
from herdsman.tools.reply import Reply
from tests.tools.scripted import BYTES, Plus, ScriptedEngine

SPECS = ToolSpecs(("brave_search",), (Plus().function,))
FORMAT = chat_format(ScriptedEngine().tokenizer)

PROSE = [
    "A plain answer, in two lines.\nHere is the second.",
    "In C: int main() { return f(x); } and {a: 1}, and [1, 2], [plus] and {plus}.",
    "```python\nx = {'a': [1, 2]}\nprint(x)\n```\nThat prints it.",
    '{"answer": 4}',
    '```json\n{"answer": {"names": ["plus"]}}\n```',
    "[1, 2, 3]",
    "2 < 3 <function and <tool> <|python",
    "plus is a word; so is surplus (as you know).",
    "",
    " \n",
    "{",
]
CALLS = [
    ("Look: ", '{"name": "plus", "parameters": {"a": 1, "b": 2}} done'),
    ("", '[ { "name": "plus", "arguments": {"a": 1, "b": 2}}]'),
    ("", '```json\n{"name": "plus", "parameters": {"a": 1, "b": 2}}\n```'),
    ("I see {x}.\n", '<function=plus>{"a": 1, "b": 2}</function>'),
    ("Well.\n", "plus(a=1, b=2)"),
    ("", "[plus(a=1, b=2), plus(a=3, b=4)]"),
    ("", 'brave_search.call(query="x")'),
    ("On it.", '<|python_tag|>brave_search.call(query="x")'),
    ("", '<tool_call>{"name": "plus", "arguments": {"a": 1, "b": 2}}</tool_call>'),
]


def follow(text: str, cuts: random.Random) -> tuple[Reply, str]:
    reply, shown = Reply(FORMAT, SPECS), ""
    engine = ScriptedEngine()
    ids = engine.ids(text)
    while ids:
        size = cuts.choice([1, 1, 2, 3, 8, 40])
        part, ids = ids[:size], ids[size:]
        shown += reply.feed(Piece(engine.tokenizer.decode(part), tuple(part)))
    return reply, shown


@pytest.mark.parametrize("text", PROSE)
def test_prose_is_shown_whole(text: str) -> None:
    for seed in range(20):
        reply, shown = follow(text, random.Random(seed))
        assert text.startswith(shown)
        assert shown + reply.rest() == text
        assert reply.calls() == []


@pytest.mark.parametrize(("before", "call"), CALLS)
def test_nothing_of_a_call_is_shown_and_all_before_it_is(before: str, call: str) -> None:
    for seed in range(20):
        reply, shown = follow(before + call, random.Random(seed))
        assert shown == before
        assert reply.calls()
        assert reply.rest() == ""


def test_prose_waits_for_a_few_characters_at_most() -> None:
    text = 'Some {braces} and [brackets] <and> tags, plus 1 (one); "quotes".\n' * 3
    reply, shown = Reply(FORMAT, SPECS), ""
    for number, character in enumerate(text, 1):
        shown += reply.feed(Piece(character, (BYTES[character.encode()],)))
        assert number - len(shown) <= 6, text[:number]


def test_without_tools_everything_is_shown_at_once() -> None:
    reply = Reply(FORMAT, ToolSpecs())
    assert reply.feed(Piece('{"name": ', (65,))) == '{"name": '
    assert reply.rest() == ""
