"""The exported template against our encoder: the same ids through transformers, tools and calls included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from herdsman.release.chat_template import CHAT_TEMPLATE
from herdsman.tokens.chat import encode
from herdsman.tokens.messages import Call, Message
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.tokens.tool_prompts import MONTHS, openai_tools
from tests.tokens.dialogs import CASES, CODE, EVERYTHING, PARIS, SEARCH, Case, output, said, user

MORE = {
    "several calls": Case([user("Q"), said("", PARIS, SEARCH), output("a"), output("b")], EVERYTHING),
    "words before a call": Case([user("Q"), said("Let me see.", PARIS)], EVERYTHING),
    "code": Case([user("20!?"), said("", CODE), output("2432902008176640000\n"), said("So much.")], EVERYTHING),
    "code and a call": Case([user("Q"), said("", CODE, PARIS)], EVERYTHING),
    "quotes": Case([user("Q"), said("", Call("wolfram_alpha", {"query": 'a "b" \\ ü\n'}))], EVERYTHING),
    "a search with more arguments": Case([user("Q"), said("", Call("brave_search", {"query": "a", "count": 2}))]),
    "no messages": Case([], EVERYTHING),
    "an empty system message": Case([Message("system", ""), user("Hi")]),
    "an empty system message and tools": Case([Message("system", ""), user("Hi")], EVERYTHING),
}


@pytest.fixture(scope="module")
def theirs(tokenizer_folder: Path) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))


def rendered(case: Case, reply: bool, as_text: bool = False) -> str:
    """What transformers makes of the dialog.

    Args:
        as_text: arguments as a JSON text, as OpenAI's API has them.
    """
    utils = pytest.importorskip("transformers.utils.chat_template_utils")
    rows: list[dict[str, Any]] = []
    for message in case.messages:
        role = "tool" if message.role == "ipython" else message.role
        rows.append({"role": role, "content": message.content})
        if message.calls:
            rows[-1]["tool_calls"] = [
                {
                    "type": "function",
                    "function": {
                        "name": call.name,
                        "arguments": json.dumps(call.arguments, ensure_ascii=False) if as_text else call.arguments,
                    },
                }
                for call in message.calls
            ]
    settings: dict[str, Any] = {}
    if case.tools and case.tools.builtin:
        settings["builtin_tools"] = list(case.tools.builtin)
    if case.today:
        settings["today"] = f"{case.today.day:02d} {MONTHS[case.today.month - 1]} {case.today.year}"
    texts, _ = utils.render_jinja_template(
        conversations=[rows],
        tools=openai_tools(case.tools.functions) if case.tools else None,
        chat_template=CHAT_TEMPLATE,
        add_generation_prompt=reply,
        bos_token="<|begin_of_text|>",
        **settings,
    )
    return str(texts[0])


@pytest.mark.parametrize("reply", [False, True])
@pytest.mark.parametrize("name", [*CASES, *MORE])
def test_ids_equal_the_encoders(tokenizer_folder: Path, theirs: Any, name: str, reply: bool) -> None:
    case, ours = (CASES | MORE)[name], Tokenizer.load(tokenizer_folder)
    expected = encode(ours, case.messages, reply, case.tools, case.today)[0]
    text = rendered(case, reply)
    assert text == ours.decode(expected)
    assert theirs.encode(text, add_special_tokens=False).ids == expected


def test_arguments_may_be_a_text_as_in_openais_api() -> None:
    for case in (CASES["a function"], MORE["several calls"]):
        assert rendered(case, True, as_text=True) == rendered(case, True)


def test_llama_cpp_takes_it_for_llama_3() -> None:
    """It looks for these in a template's source."""
    assert "<|start_header_id|>ipython<|end_header_id|>" in CHAT_TEMPLATE
    assert "<|python_tag|>" in CHAT_TEMPLATE
