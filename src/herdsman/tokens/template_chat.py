"""Chat formats of other models, through the Jinja template that came with each, without what templates let in.

A template writes one text, in which a message that spells a special token would become one. Here every content goes
into the template as a mark that nobody can guess; the text is cut at the marks, special tokens are taken only from what
the template itself wrote, and the contents come back as plain text. Where no content names a special token, the ids are
those of the rendered text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from itertools import groupby, takewhile
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from herdsman.errors import InputError
from herdsman.tokens.call_forms import MalformedCall, read_calls
from herdsman.tokens.calls import write_calls
from herdsman.tokens.foreign import ForeignTokenizer
from herdsman.tokens.messages import CODE_INTERPRETER, ROLES, Call, Kind, Message, ToolSpecs
from herdsman.tokens.template_marks import Content, Marks
from herdsman.tokens.tool_prompts import CHATML_OUTPUT, openai_tools, with_chatml_tools


@dataclass(frozen=True)
class _Run:
    """A stretch of the rendered text: a special token, or text of one kind."""

    text: str
    kind: Kind
    special: int | None = None


class TemplateChat:
    """A model's own chat template as a `ChatFormat`.

    Tools are given to a template that shows them and their calls. For one that does not, they are described in the
    system message, in the words that models with ChatML know: calls between `<tool_call>` tags, results between
    `<tool_response>`.

    Raises:
        InputError: the template is broken, or shows no messages.
    """

    def __init__(self, tokenizer: ForeignTokenizer, template: str):
        self.tokenizer = tokenizer
        names = sorted(tokenizer.special, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, names)) or "(?!)")
        by_id = {id: name for name, id in tokenizer.special.items()}
        self._tokens = {
            "bos_token": "".join(by_id.get(id, "") for id in tokenizer.beginning),
            "eos_token": next((by_id[id] for id in sorted(tokenizer.stop_ids) if id in by_id), ""),
        }
        try:
            self._template = _environment().from_string(template)
        except TemplateError as error:
            raise InputError(
                f"the model's chat template cannot be read ({error})", do="let the model go on with a text"
            ) from error
        question = [{"role": "user", "content": "a"}]
        self._header = self._reply_header(self._render(question, False), self._render(question, True))
        self._shows_tools = self._would_show_tools(question)
        runs = self._runs([Message("user", "a"), Message("assistant", "b")], False, None, None)
        ends = [run.special for run in runs if run.special is not None and run.kind is Kind.END]
        begins = [self.tokenizer.special[name] for name in self._special.findall(self._header)]
        self.stop_ids = tokenizer.stop_ids | {*ends, *begins[:1]}

    def encode(
        self,
        messages: Sequence[Message],
        reply: bool = False,
        tools: ToolSpecs | None = None,
        today: date | None = None,
    ) -> tuple[list[int], list[Kind]]:
        """See `ChatFormat`.

        Raises:
            InputError: a role is not known, or the template refuses the dialog, fails on it or leaves a message out.
        """
        for number, message in enumerate(messages):
            if message.role not in ROLES:
                raise InputError(
                    f"there is no role {message.role!r}", where=f"message {number}", do=f"use one of {', '.join(ROLES)}"
                )
        ids: list[int] = []
        kinds: list[Kind] = []
        # Between two special tokens the text is encoded in one piece, as it was when the model learned it.
        for special, group in groupby(self._runs(messages, reply, tools, today), key=lambda run: run.special):
            if special is None:
                runs = list(group)
                found = self.tokenizer.encode("".join(run.text for run in runs))
                ids += found
                kinds += self._kinds(found, runs)
            else:
                for run in group:
                    ids.append(special)
                    kinds.append(run.kind)
        return ids, kinds

    def decode(self, ids: Sequence[int]) -> Message:
        """See `ChatFormat`."""
        return Message("assistant", self.tokenizer.decode(list(takewhile(lambda id: id not in self.stop_ids, ids))))

    def _reply_header(self, asked: str, answered: str) -> str:
        """What the template puts before a reply: where the text that invites one goes its own way."""
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(asked, answered, strict=False)))
        cut = [match.start() for match in self._special.finditer(answered) if match.start() < same < match.end()]
        return answered[cut[0] if cut else same :]

    def _would_show_tools(self, question: list[dict[str, Any]]) -> bool:
        """Whether a function's definition and a call of it appear in what the template writes."""
        parameters = {"type": "object", "properties": {"given": {"type": "string", "description": ""}}}
        defined = {"name": "definition", "description": "", "parameters": parameters}
        called = {
            "id": "call00000",
            "type": "function",
            "function": {"name": "called", "arguments": {"given": "value"}},
        }
        rows = [*question, {"role": "assistant", "content": "", "tool_calls": [called]}]
        rows.append({"role": "tool", "name": "called", "tool_call_id": "call00000", "content": "result"})
        try:
            text = self._render(rows, True, [defined])
        except InputError:
            return False
        return all(word in text for word in ("definition", "called", "value", "result"))

    def _kinds(self, ids: Sequence[int], runs: Sequence[_Run]) -> Iterator[Kind]:
        """The kind of each token: of the run in which it begins."""
        ends = [len(run.text.encode("utf-8", "surrogatepass")) for run in runs]
        lengths = [len(self.tokenizer.decode_bytes([id])) for id in ids]
        number, left = 0, ends[0] + max(0, sum(lengths) - sum(ends))  # a space that the encoder puts in front
        for length in lengths:
            while left <= 0 and number + 1 < len(runs):
                number += 1
                left += ends[number]
            yield runs[number].kind
            left -= length

    def _runs(
        self, messages: Sequence[Message], reply: bool, tools: ToolSpecs | None, today: date | None
    ) -> list[_Run]:
        """The rendered dialog, cut where the kind changes and at special tokens."""
        marks = Marks(f"{messages!r}{tools!r}", self._special)
        told = list(messages) if self._shows_tools or not tools else with_chatml_tools(messages, tools)
        shift = len(told) - len(messages)
        rows = list(self._rows(told, marks))
        functions = [*tools.known.values()] if tools and self._shows_tools else None
        parts = marks.split(self._render(rows, reply, marks.named(functions), today))
        shown = {part.message for part in parts if isinstance(part, Content)}
        for number in {content.message for content in marks.contents if content.message is not None} - shown:
            raise InputError(
                f"the model's chat template leaves out what the {told[number].role} says",
                where=f"message {max(0, number - shift)}",
                do="send a dialog without it",
            )
        return [run for run in self._with_kinds(parts, reply) if run.text]

    def _rows(self, messages: Sequence[Message], marks: Marks) -> Iterator[dict[str, Any]]:
        """The messages as templates take them, with marks for contents."""
        awaited: list[tuple[str, str]] = []
        results: list[str] = []
        for number, message in enumerate(messages):
            calls = _tagged_calls(message) if message.call else message.calls
            if message.role == "ipython" and not self._shows_tools:
                results.append(CHATML_OUTPUT.format(marks.of(message.content, Kind.TOOL_OUT, number)))
                if number + 1 == len(messages) or messages[number + 1].role != "ipython":
                    yield {"role": "user", "content": "\n".join(results)}
                    results = []
            elif message.role == "ipython":
                id, name = awaited.pop(0) if awaited else ("call00000", "tool")
                content = marks.of(message.content, Kind.TOOL_OUT, number)
                yield {"role": "tool", "tool_call_id": id, "name": marks.named(name), "content": content}
            elif message.role != "assistant":
                yield {"role": message.role, "content": marks.of(message.content, Kind.PROMPT, number)}
            else:
                content = "" if message.call else marks.of(message.content, Kind.BODY, number, True)
                row: dict[str, Any] = {"role": "assistant", "content": content}
                if calls and self._shows_tools:
                    awaited = [(f"call{place:05d}", call.name) for place, call in enumerate(calls)]
                    row["tool_calls"] = [
                        {
                            "id": id,
                            "type": "function",
                            "function": {
                                "name": marks.called(name, number),
                                "arguments": marks.called(call.arguments, number),
                            },
                        }
                        for (id, name), call in zip(awaited, calls, strict=True)
                    ]
                elif calls:
                    row["content"] += "\n" if content else ""
                    row["content"] += marks.called(write_calls(calls, "tool_call"), number)
                yield row

    def _with_kinds(self, parts: Sequence[str | Content], reply: bool) -> Iterator[_Run]:
        contents = [part for part in parts if isinstance(part, Content)]
        passed = 0
        for part in parts:
            if isinstance(part, Content):
                passed += 1
                yield _Run(part.text, part.kind)
                continue
            before = contents[passed - 1] if passed else None
            after = contents[passed] if passed < len(contents) else None
            if before and before.by_assistant:
                if after and after.message == before.message:
                    yield from self._frame(part, Kind.CALL)
                    continue
                if end := self._special.search(part):
                    yield _Run(part[: end.start()], before.kind)
                    yield from self._frame(end[0], Kind.END)
                    part = part[end.end() :]
            header = part.rfind(self._header) if self._header and (after.by_assistant if after else reply) else -1
            behind = header + len(self._header)
            if header < 0:
                yield from self._frame(part, Kind.PROMPT)
            else:
                yield from self._frame(part[:header], Kind.PROMPT)
                yield from self._frame(part[header:behind], Kind.HEADER)
                yield from self._frame(part[behind:], after.kind if after else Kind.HEADER)

    def _frame(self, text: str, kind: Kind) -> Iterator[_Run]:
        """What the template wrote, its special tokens by themselves."""
        place = 0
        for match in self._special.finditer(text):
            yield _Run(text[place : match.start()], kind)
            yield _Run(match[0], kind, self.tokenizer.special[match[0]])
            place = match.end()
        yield _Run(text[place:], kind)

    def _render(
        self,
        rows: Sequence[dict[str, Any]],
        reply: bool,
        functions: Sequence[dict[str, Any]] | None = None,
        today: date | None = None,
    ) -> str:
        def strftime_now(form: str) -> str:
            return datetime.combine(today or date.today(), time()).strftime(form)

        try:
            return self._template.render(
                messages=rows,
                tools=openai_tools(functions) if functions else None,
                add_generation_prompt=reply,
                strftime_now=strftime_now,
                raise_exception=_refuse,
                **self._tokens,
            )
        except Exception as error:  # A template is a program from elsewhere, which can raise anything.
            raise InputError(
                f"the model's chat template refuses the dialog ({error})", do="send one of the kind it was made for"
            ) from error


def _tagged_calls(message: Message) -> tuple[Call, ...]:
    """What is called behind a python tag, which other models do not have."""
    try:
        found = read_calls(message.content, (), alone=True)
    except MalformedCall:
        found = []
    return tuple(found) or (Call(CODE_INTERPRETER, {"code": message.content}),)


def _environment() -> ImmutableSandboxedEnvironment:
    """Jinja as Hugging Face's tools set it up."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    return environment


class _Generation(Extension):
    """`{% generation %}`, which marks what the assistant says for training and writes nothing itself."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
