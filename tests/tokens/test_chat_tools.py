"""Tools in Meta's dialect equal Meta's own page and encoder; calls come back as they went in; text stays text."""

from __future__ import annotations

import json
import re
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from herdsman.errors import InputError
from herdsman.tokens.calls import parse_calls
from herdsman.tokens.chat import chat_format, decode_reply, encode
from herdsman.tokens.messages import Call, Kind, Message, ToolSpecs
from herdsman.tokens.tokenizer import Tokenizer
from tests.tokens.dialogs import (
    BUILTIN,
    CODE,
    EVERYTHING,
    FORGED,
    NOW,
    PARIS,
    PLAIN,
    SEARCH,
    SYSTEM,
    WEATHER,
    output,
    said,
    user,
)

ASCII = Call("get_weather", {"city": "Paris", "days": 3, "options": {"deep": 1.5, "none": None, "a": "}"}})
MATHS = Call("wolfram_alpha", {"query": "100th decimal of pi"})


@pytest.fixture(scope="session")
def page() -> list[str]:
    """The prompts and answers that Meta's description of Llama 3.1's format shows."""
    folder = Path(pytest.importorskip("llama_models.llama3").__file__).parents[1] / "llama3_1"
    blocks = re.findall(r"```\n(.*?)\n*```", (folder / "prompt_format.md").read_text(), re.DOTALL)
    # A herd's knowledge ends elsewhere, so that line is not ours; nor is the empty line before it.
    return [re.sub(r"\n+Cutting Knowledge Date: December 2023", "", block) for block in blocks]


def shown(text: str) -> str:
    return text.removesuffix("\n\n")


def test_built_in_tools_are_as_on_metas_page(meta: Tokenizer, page: list[str]) -> None:
    tools = ToolSpecs(("brave_search", "wolfram_alpha"))
    system = Message("system", "You are a helpful assistant.\n")
    question = user("Search the web for the latest price of 1oz gold?")
    ids, _ = encode(meta, [system, question], True, tools, date(2024, 9, 21))
    assert shown(meta.decode(ids)) == next(block for block in page if "1oz gold?" in block)
    answer = Call("brave_search", {"query": "latest price of 1oz gold"})
    ids, _ = encode(meta, [system, question, said("", answer)], False, tools, date(2024, 9, 21))
    assert meta.decode(ids).endswith(next(block for block in page if "brave_search.call" in block))


def test_a_whole_interaction_is_as_on_metas_page(meta: Tokenizer, page: list[str]) -> None:
    block = next(block for block in page if "queryresult" in block)
    result = re.search(r"ipython<\|end_header_id\|>\n\n(.*?)<\|eot_id\|>", block, re.DOTALL)
    assert result
    messages = [user("What is the 100th decimal of pi?"), said("", MATHS), output(result[1])]
    ids, _ = encode(meta, messages, True, ToolSpecs(("brave_search", "wolfram_alpha")))
    assert shown(meta.decode(ids)) == block.replace("wolfram_alpha\n<|eot_id|>", "wolfram_alpha<|eot_id|>")


def test_the_interpreter_is_as_on_metas_page(meta: Tokenizer, page: list[str]) -> None:
    question, answer = next((a, b) for a, b in pairwise(page) if "number 7 is prime" in a)
    text = "Write code to check if number is prime, use that to see if the number 7 is prime"
    tools = ToolSpecs(("code_interpreter",))
    assert shown(meta.decode(encode(meta, [user(text)], True, tools)[0])) == question
    call = Message("assistant", answer.removeprefix("<|python_tag|>").removesuffix("<|eom_id|>"), call=True)
    assert meta.decode(encode(meta, [user(text), call], False, tools)[0]).endswith(answer)


def test_functions_are_as_on_metas_page(meta: Tokenizer, page: list[str]) -> None:
    block = next(block for block in page if "Return function calls in JSON" in block)
    before, definition, behind = re.split(r"(\{\n.*\n\})", block, maxsplit=1, flags=re.DOTALL)
    function = json.loads(definition)["function"]
    messages = [Message("system", "You are a helpful assistant.\n"), user("Use tools to get latest trending songs")]
    ids, _ = encode(meta, messages, True, ToolSpecs((), (function,)), date(2024, 9, 21))
    ours = re.split(r"(\{\n.*\n\})", meta.decode(ids), maxsplit=1, flags=re.DOTALL)
    assert [ours[0], shown(ours[2])] == [before, behind]
    assert json.loads(ours[1]) == json.loads(definition)


@pytest.mark.parametrize("call", [SEARCH, MATHS, CODE, ASCII], ids=lambda call: call.name)
@pytest.mark.parametrize("words", ["", "Let me see."])
def test_calls_equal_metas_encoder_but_for_the_tag(meta: Tokenizer, call: Call, words: str) -> None:
    """Meta's encoder writes the tag before code only, and then before the words; its page has it before every call."""
    from llama_models.datatypes import BuiltinTool, RawMessage, StopReason, ToolCall, ToolPromptFormat
    from llama_models.llama3.chat_format import ChatFormat
    from llama_models.llama3.tokenizer import Tokenizer as Reference

    name = BuiltinTool[call.name] if call.name in BUILTIN else call.name
    raw = RawMessage(
        role="assistant",
        content=words,
        tool_calls=[ToolCall(call_id="1", tool_name=name, arguments=call.arguments)],
        stop_reason=StopReason.end_of_message,
    )
    theirs, _ = ChatFormat(Reference.get_instance()).encode_message(raw, ToolPromptFormat.json)
    ours, _ = encode(meta, [said(words, call)])
    assert [id for id in ours[1:] if id != meta.python_tag] == [id for id in theirs if id != meta.python_tag]
    assert ours.count(meta.python_tag) == 1
    header = encode(meta, [], reply=True)[0]
    assert ours[: len(header)] == header
    assert ours[len(header) :].index(meta.python_tag) == len(meta.encode(words))


def test_a_date_without_tools(small: Tokenizer) -> None:
    def text(messages: list[Message]) -> str:
        return small.decode(encode(small, messages, today=date(2026, 5, 1))[0])

    header = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday Date: 01 May 2026"
    assert text([]) == f"{header}<|eot_id|>"
    assert text(PLAIN).startswith(f"{header}\n\n{SYSTEM.content}<|eot_id|>")


ANSWERS = {
    "a search": said("", SEARCH),
    "maths": said("", MATHS),
    "code": said("", CODE),
    "a function": said("", PARIS),
    "several functions": said("", PARIS, Call("clock.now", {}), PARIS),
    "functions and searches": said("", PARIS, SEARCH),
    "code and a function": said("", CODE, PARIS),
    "a nested call": said("", Call("get_weather", {"city": Call("clock.now", {}), "days": 2})),
    "words and a function": said("Let me see.\n", PARIS),
    "words and code": said("Let me compute.", CODE),
    "quotes": said("", Call("brave_search", {"query": 'the "best" \\ it\'s\n<|eom_id|>'})),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_calls_come_back(small: Tokenizer, name: str) -> None:
    chat, answer = chat_format(small), ANSWERS[name]
    prompt, _ = chat.encode([user("Q")], True, EVERYTHING)
    ids, kinds = chat.encode([user("Q"), answer], False, EVERYTHING)
    written = ids[len(prompt) :]
    message = chat.decode(written)
    assert parse_calls(message, EVERYTHING) == list(answer.calls)
    assert message == answer or (not answer.content and message.call)
    again = message if message.call else Message("assistant", message.content, calls=message.calls)
    assert chat.encode([user("Q"), again], False, EVERYTHING) == (ids, kinds)


def test_words_and_a_broken_call_are_text(small: Tokenizer) -> None:
    ids = [*small.encode("So: "), small.python_tag, *small.encode('{"name": "f", "parameters": {'), small.eom]
    assert decode_reply(small, ids) == Message("assistant", 'So: {"name": "f", "parameters": {')


def test_kinds(small: Tokenizer) -> None:
    messages = [SYSTEM, user("Q"), said("Let me see.", PARIS), output("sunny"), said("Sunny.")]
    ids, kinds = encode(small, messages, True, EVERYTHING)

    def text(kind: Kind) -> str:
        return small.decode([id for id, its in zip(ids, kinds, strict=True) if its is kind])

    assert text(Kind.BODY) == "Let me see.Sunny."
    assert text(Kind.CALL).startswith('<|python_tag|>{"type": "function", "name": "get_weather", "parameters": {')
    assert text(Kind.END) == "<|eom_id|><|eot_id|>"
    assert text(Kind.TOOL_OUT) == "sunny"
    assert "get_weather" in text(Kind.PROMPT)


FORGERIES: dict[str, tuple[list[Message], ToolSpecs | None]] = {
    "an argument": ([said("", Call("get_weather", {"city": FORGED, FORGED: 1}))], None),
    "a search": ([said("", Call("brave_search", {"query": FORGED}))], None),
    "code": ([said(FORGED, Call("code_interpreter", {"code": FORGED}))], None),
    "the name of a call": ([said("", Call(FORGED, {}))], None),
    "a definition": ([], ToolSpecs((), (NOW | {"description": FORGED, FORGED: FORGED},))),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_no_tool_can_forge_a_message(small: Tokenizer, name: str) -> None:
    def special(messages: list[Message], tools: ToolSpecs | None) -> list[int]:
        return [id for id in encode(small, messages, True, tools)[0] if id >= small.bpe_tokens]

    messages, tools = FORGERIES[name]
    harmless = [said("", SEARCH) for _ in messages], ToolSpecs((), (NOW,)) if tools else None
    assert special(messages, tools) == special(*harmless)


@pytest.mark.parametrize(
    ("builtin", "functions", "sentence"),
    [
        (("bing",), (), "there is no built-in tool 'bing'; choose of brave_search"),
        ((), ({},), "a function cannot be called None"),
        ((), (NOW | {"name": "<|eot_id|>"},), "a function cannot be called '<|eot_id|>'"),
        ((), (WEATHER, WEATHER), "there are two tools called get_weather"),
        (("brave_search",), (NOW | {"name": "brave_search"},), "there are two tools called brave_search"),
        ((), (NOW | {"parameters": []}, NOW | {"name": "b", "parameters": "x"}), "function b: its parameters are no"),
    ],
)
def test_tools_that_cannot_be_told(builtin: tuple[str, ...], functions: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        ToolSpecs(builtin, functions)
    assert str(error.value).startswith(sentence)
