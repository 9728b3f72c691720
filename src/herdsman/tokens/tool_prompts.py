"""What a model is told about its tools: lines of the system message, definitions in the words it was taught with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from herdsman.errors import InputError
from herdsman.tokens.messages import CODE_INTERPRETER, Message, ToolSpecs

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip

# The words of Llama 3.1's prompt format (`prompt_format.md`, zero-shot JSON) and of its template on the Hub: a model
# that was trained with them has to read exactly these.
META_BEFORE = (
    "Answer the user's question by making use of the following functions if needed.\n"
    "If none of the function can be used, please say so.\n"
    "Here is a list of functions in JSON format:\n"
)
META_BEHIND = "\n\nReturn function calls in JSON format."
HF_BEFORE = (
    "Given the following functions, please respond with a JSON for a function call "
    "with its proper arguments that best answers the given prompt.\n\n"
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
    "Do not use variables.\n\n"
)
HF_KNOWLEDGE = "Cutting Knowledge Date: December 2023\n"
HF_TODAY = "26 Jul 2024"
CHATML_CALL = '<tool_call>\n{"name": <name of the function>, "arguments": <object with its arguments>}\n</tool_call>'
CHATML_OUTPUT = "<tool_response>\n{}\n</tool_response>"


def openai_tools(functions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Functions in the frame that OpenAI's API gives them."""
    return [{"type": "function", "function": function} for function in functions]


def told_by_meta(messages: Sequence[Message], tools: ToolSpecs | None, today: date | None) -> list[Message]:
    """The dialog with what Llama 3.1's prompt format says of tools and dates, as Meta writes it.

    Tools switch on `Environment: ipython`; those built in are listed by name in the system message, but the code
    interpreter, which the environment means already; functions are defined in a user message of their own.
    """
    lines = ["Environment: ipython"] if tools else []
    if named := [name for name in (tools.builtin if tools else ()) if name != CODE_INTERPRETER]:
        lines.append(f"Tools: {', '.join(named)}")
    if today is not None:
        lines.append(f"Today Date: {today.day:02d} {MONTHS[today.month - 1]} {today.year}")
    system, rest = _system(messages)
    if lines:
        system = Message("system", "\n".join(lines) + (f"\n\n{system.content}" if system and system.content else ""))
    told = [system] if system else []
    if tools and tools.functions:
        definitions = "\n".join(_indented(tool) for tool in openai_tools(tools.functions))
        told.append(Message("user", META_BEFORE + definitions + META_BEHIND))
    return [*told, *rest]


def told_by_hf(messages: Sequence[Message], tools: ToolSpecs | None, today: date | None) -> list[Message]:
    """The dialog as Llama 3.1's template on the Hub words it: a system message in any case, with its dates; functions
    before the first message behind it; contents without the space around them; a tool's output as a JSON string.

    Raises:
        InputError: there are functions and no message to define them in.
    """
    text = "Environment: ipython\n" if tools else ""
    if tools and tools.builtin:
        text += f"Tools: {', '.join(name for name in tools.builtin if name != CODE_INTERPRETER)}\n\n"
    shown = HF_TODAY if today is None else f"{today.day:02d} {MONTHS[today.month - 1][:3]} {today.year}"
    system, rest = _system(messages)
    text += f"{HF_KNOWLEDGE}Today Date: {shown}\n\n{system.content.strip() if system else ''}"
    rest = [message if message.call else replace(message, content=_trimmed(message)) for message in rest]
    if tools and tools.functions:
        if not rest:
            raise InputError(
                "the functions have no message to be defined in", do="let the dialog begin with a question"
            )
        definitions = "".join(_indented(tool) + "\n\n" for tool in openai_tools(tools.functions))
        rest = [Message("user", HF_BEFORE + definitions + rest[0].content), *rest[1:]]
    return [Message("system", text), *rest]


def with_chatml_tools(messages: Sequence[Message], tools: ToolSpecs) -> list[Message]:
    """The dialog with every tool described in the system message, in the tags that models with ChatML know."""
    system, rest = _system(messages)
    definitions = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in openai_tools([*tools.known.values()]))
    text = (
        "You may call functions to answer. Here are their definitions in JSON:\n"
        f"<tools>\n{definitions}\n</tools>\n\n"
        f"To call a function, return this and nothing else, once for each call:\n{CHATML_CALL}\n"
        "The results come back between <tool_response> and </tool_response>."
    )
    return [Message("system", f"{system.content}\n\n{text}" if system and system.content else text), *rest]


def _trimmed(message: Message) -> str:
    return json.dumps(message.content, ensure_ascii=False) if message.role == "ipython" else message.content.strip()


def _system(messages: Sequence[Message]) -> tuple[Message | None, list[Message]]:
    """The system message that a dialog begins with, if it does, and the rest."""
    if messages and messages[0].role == "system":
        return messages[0], list(messages[1:])
    return None, list(messages)


def _indented(value: Any) -> str:
    return json.dumps(value, indent=4, ensure_ascii=False)
