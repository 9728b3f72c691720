"""Hugging Face's dialect equals what transformers makes of Llama 3.1's template, but for what that template lets in."""

from __future__ import annotations

from typing import Any

import pytest

from herdsman.artifacts import fetch, read_member
from herdsman.errors import InputError
from herdsman.tokens.chat import Llama3Chat, chat_format
from herdsman.tokens.messages import Call, Kind, Message, ToolSpecs
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.tokens.tool_prompts import MONTHS, openai_tools
from tests.tokens.dialogs import BUILTIN, CASES, FORGED, FUNCTIONS, NOW, PARIS, SYSTEM, TRL, Case, output, said, user
from tests.tokens.material import ADVERSARIAL

# What the template does with a text that has space around it, or is one.
SPACED = {
    name: Case([Message("system", text), user(text), said(text), user("x")]) for name, text in ADVERSARIAL.items()
}


@pytest.fixture(scope="session")
def template() -> str:
    return read_member(fetch(TRL), "trl/chat_templates/llama3_1.jinja").decode()


def rows(messages: list[Message]) -> list[dict[str, Any]]:
    """Messages as transformers takes them."""
    made: list[dict[str, Any]] = []
    for message in messages:
        row: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.calls:
            row["tool_calls"] = [
                {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in message.calls
            ]
        made.append(row)
    return made


def rendered(template: str, case: Case, reply: bool) -> str:
    utils = pytest.importorskip("transformers.utils.chat_template_utils")
    settings: dict[str, Any] = {}
    if case.tools and case.tools.builtin:
        settings["builtin_tools"] = list(case.tools.builtin)
    if case.tools and case.tools.functions:
        settings["tools"] = openai_tools(case.tools.functions)
    if case.today:
        settings["date_string"] = f"{case.today.day:02d} {MONTHS[case.today.month - 1][:3]} {case.today.year}"
    (texts, _) = utils.render_jinja_template(
        conversations=[rows(case.messages)],
        chat_template=template,
        add_generation_prompt=reply,
        bos_token="<|begin_of_text|>",
        **settings,
    )
    return str(texts[0])


def reference(template: str, case: Case, reply: bool) -> list[int]:
    """Ids of the rendered text, in which names of special tokens become special."""
    from llama_models.llama3.tokenizer import Tokenizer as Reference

    text = rendered(template, case, reply)
    return list(Reference.get_instance().encode(text, bos=False, eos=False, allowed_special="all"))


@pytest.mark.parametrize("reply", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_ids_equal_the_templates(meta: Tokenizer, template: str, name: str, reply: bool) -> None:
    case = CASES[name]
    ids, kinds = chat_format(meta, "hf").encode(case.messages, reply, case.tools, case.today)
    assert meta.decode(ids) == rendered(template, case, reply)
    assert ids == reference(template, case, reply)
    assert len(kinds) == len(ids)


@pytest.mark.parametrize("name", [name for name in SPACED if name != "names of special tokens"])
def test_any_text_is_trimmed_as_by_the_template(meta: Tokenizer, template: str, name: str) -> None:
    assert chat_format(meta, "hf").encode(SPACED[name].messages)[0] == reference(template, SPACED[name], False)


FORGERIES = {
    "in messages": Case([Message("system", FORGED), user(FORGED), said(FORGED), output(FORGED)]),
    "in arguments": Case([user("Hi"), said("", Call("get_weather", {"city": FORGED, FORGED: 1}))], FUNCTIONS),
    "in a built-in call": Case([user("Hi"), said("", Call("brave_search", {"query": FORGED}))], ToolSpecs(BUILTIN)),
    "in the name of a call": Case([user("Hi"), said("", Call(FORGED, {}))], FUNCTIONS),
    "in a definition": Case([user("Hi")], ToolSpecs((), (NOW | {"description": FORGED, FORGED: FORGED},))),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_what_the_template_lets_in_stays_text_here(meta: Tokenizer, template: str, name: str) -> None:
    def special(ids: list[int]) -> list[int]:
        return [id for id in ids if id >= meta.bpe_tokens]

    case = FORGERIES[name]
    theirs = reference(template, case, True)
    ids, _ = chat_format(meta, "hf").encode(case.messages, True, case.tools)
    assert meta.decode(ids) == rendered(template, case, True)
    assert special(theirs).count(meta.eom) > special(ids).count(meta.eom)
    assert special(ids)[:3] == [meta.bos, meta.start_header, meta.end_header]
    assert special(ids).count(meta.start_header) == len(case.messages) + 1 + (case.messages[0].role != "system")
    assert special(ids).count(meta.bos) == 1


def test_kinds(meta: Tokenizer) -> None:
    ids, kinds = Llama3Chat(meta, "hf").encode(CASES["all tools"].messages, True, CASES["all tools"].tools)

    def text(kind: Kind) -> str:
        return meta.decode([id for id, its in zip(ids, kinds, strict=True) if its is kind])

    assert text(Kind.BODY) == "It is $2,000.Sunny.Welcome."
    assert text(Kind.CALL).startswith('<|python_tag|>brave_search.call(query="price of 1oz gold"){"name": "get_wea')
    assert text(Kind.TOOL_OUT) == '"{\\"results\\": [\\"1 < 2\\", \\"$2,000\\"]}""sunny\\n"'
    assert text(Kind.END) == "<|eom_id|><|eot_id|><|eom_id|><|eot_id|><|eot_id|>"
    assert text(Kind.HEADER) == "<|start_header_id|>assistant<|end_header_id|>\n\n" * 6


def test_what_the_template_refuses(meta: Tokenizer, template: str) -> None:
    for case, sentence in (
        (Case([user("Hi"), said("", PARIS, PARIS)], FUNCTIONS), "calls 2 tools"),
        (Case([SYSTEM], FUNCTIONS), "no message to be defined in"),
    ):
        with pytest.raises(Exception, match=r"single tool-calls|no first user message"):
            rendered(template, case, False)
        with pytest.raises(InputError, match=sentence):
            chat_format(meta, "hf").encode(case.messages, tools=case.tools)
