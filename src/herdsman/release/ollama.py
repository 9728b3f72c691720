"""Export for Ollama: a folder with the model as GGUF and the Modelfile that `ollama create` reads.

Grammar of the Modelfile and of its template as documented by Ollama (docs/modelfile and docs/template): the template is
one of Go's `text/template`, given `.System`, `.Messages` (`.Role`, `.Content`, `.ToolCalls`) and `.Tools`. Ollama puts
the token that a text begins with in front by itself, and takes a model to know tools if the template mentions `.Tools`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from herdsman.errors import InputError
from herdsman.files import atomic_folder, write_text
from herdsman.model.gguf_writer import Type
from herdsman.model.store import read_config
from herdsman.progress import SILENT, Progress
from herdsman.release import gguf
from herdsman.release.protocol import protocol_of
from herdsman.tokens.chat import chat_format
from herdsman.tokens.foreign import ForeignTokenizer, load_tokenizer
from herdsman.tokens.messages import Message
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.tokens.tool_prompts import META_BEFORE, META_BEHIND

WEIGHTS, MODELFILE = "model.gguf", "Modelfile"
LONGEST_CONTEXT = 8192
"""Ollama keeps memory for the whole context from the start; whoever wants more raises `num_ctx`."""


def export(
    model_folder: Path,
    tokenizer_folder: Path,
    out: Path,
    type: Type = "f16",
    chats: bool = True,
    name: str | None = None,
    licence: str | None = None,
    progress: Progress = SILENT,
) -> None:
    """Writes the folder whole or not at all; arguments and errors as those of `gguf.export`.

    Raises:
        InputError: also for a chat template that is no frame around each message.
    """
    options, _, _ = read_config(model_folder)
    text = modelfile(load_tokenizer(tokenizer_folder), options.context_length, chats, licence, tokenizer_folder)
    with atomic_folder(out) as folder:
        gguf.export(model_folder, tokenizer_folder, folder / WEIGHTS, type, chats, name, licence, progress)
        write_text(folder / MODELFILE, text)


def modelfile(
    tokenizer: Tokenizer | ForeignTokenizer,
    context_length: int,
    chats: bool,
    licence: str | None,
    where: Path,
    temperature: float = 0.6,
    top_p: float = 0.9,
) -> str:
    """Text of a Modelfile beside `model.gguf`. Sampling is that of `herdsman chat`: what Ollama adds is turned off."""
    protocol = protocol_of(tokenizer, chats)
    if not protocol.chat_template:
        template = "{{ .Prompt }}"
    elif isinstance(tokenizer, ForeignTokenizer):
        template = go_template(frames_of(tokenizer, where))
    else:
        template = LLAMA3_TEMPLATE
    if '"""' in template:
        raise InputError(
            'the chat template holds """, which a Modelfile cannot', where=where, do="export with --to gguf"
        )
    lines = [
        f"FROM ./{WEIGHTS}",
        f'TEMPLATE """{template}"""',
        *(f"PARAMETER stop {json.dumps(protocol.names[id])}" for id in protocol.ends if id in protocol.names),
        f"PARAMETER temperature {temperature}",
        f"PARAMETER top_p {top_p}",
        "PARAMETER top_k 0",
        "PARAMETER min_p 0.0",
        "PARAMETER repeat_penalty 1.0",
        f"PARAMETER num_ctx {min(context_length, LONGEST_CONTEXT)}",
    ]
    if licence:
        lines.append(f"LICENSE {json.dumps(licence)}")
    return "\n".join(lines) + "\n"


def _header(role: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n"


# As `tokens.chat.encode` writes it, but that Go writes JSON without spaces and line ends. An answer that was begun
# is left open, for the model to go on with. What stands behind `if .ToolCalls` tells Ollama how a call begins.
LLAMA3_TEMPLATE = (
    "{{ if or .System .Tools }}"
    + _header("system")
    + "{{ if .Tools }}Environment: ipython{{ if .System }}\n\n{{ end }}"
    "{{ end }}{{ .System }}<|eot_id|>{{ end }}"
    "{{ if .Tools }}" + _header("user") + META_BEFORE + "{{ range .Tools }}{{ json . }}\n{{ end }}"
    f"{META_BEHIND.removeprefix(chr(10))}<|eot_id|>{{{{ end }}}}"
    "{{ range $place, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $place)) 1 }}"
    '{{ if eq .Role "user" }}' + _header("user") + "{{ .Content }}<|eot_id|>"
    '{{ else if eq .Role "tool" }}' + _header("ipython") + "{{ .Content }}<|eot_id|>"
    '{{ else if eq .Role "assistant" }}' + _header("assistant") + "{{ .Content }}{{ if .ToolCalls }}<|python_tag|>"
    "{{ range $number, $_ := .ToolCalls }}{{ if $number }}; {{ end }}"
    '{"type": "function", "name": {{ json .Function.Name }}, "parameters": {{ json .Function.Arguments }}}{{ end }}'
    "<|eom_id|>{{ else if not $last }}<|eot_id|>{{ end }}{{ end }}"
    '{{ if and $last (ne .Role "assistant") }}' + _header("assistant") + "{{ end }}{{ end }}"
)


@dataclass(frozen=True)
class Frames:
    """What a chat template writes before and after each message, by role, and in place of a missing system message."""

    before: dict[str, str]
    after: dict[str, str]
    no_system: str

    def render(self, messages: Sequence[Message], reply: bool) -> str:
        front = "" if messages[0].role == "system" else self.no_system
        framed = (self.before[m.role] + m.content + self.after[m.role] for m in messages)
        return front + "".join(framed) + (self.before["assistant"] if reply else "")


def frames_of(tokenizer: ForeignTokenizer, where: Path) -> Frames:
    """Finds the frames of a model's own chat format by trying it on a dialog, and tries them on others.

    Raises:
        InputError: the format is not a frame around each message, so no Go template can be made from it.
    """
    refusal = InputError(
        "its chat template is more than a frame around each message, and Ollama needs one of its own kind",
        where=where,
        do="export with --to gguf and write a Modelfile by hand",
    )
    system, user, assistant, again = (
        Message(role, content)
        for role, content in (("system", "SSS"), ("user", "UUU"), ("assistant", "AAA"), ("user", "VVV"))
    )
    beginning = tokenizer.decode(tokenizer.beginning)
    try:
        format = chat_format(tokenizer)

        def render(messages: Sequence[Message], reply: bool = False) -> str:
            return tokenizer.decode(format.encode(messages, reply)[0]).removeprefix(beginning)

        before_system, rest = render([system, user, assistant, again]).split("SSS")
        system_to_user, rest = rest.split("UUU")
        user_to_assistant, rest = rest.split("AAA")
        assistant_to_user, _ = rest.split("VVV")
        header = render([user], reply=True).removeprefix(render([user]))
        after_assistant = render([user, assistant]).split("AAA")[1]
        before_user = assistant_to_user.removeprefix(after_assistant)
        frames = Frames(
            before={"system": before_system, "user": before_user, "assistant": header},
            after={
                "system": system_to_user.removesuffix(before_user),
                "user": user_to_assistant.removesuffix(header),
                "assistant": after_assistant,
            },
            no_system=render([user]).split("UUU")[0].removesuffix(before_user),
        )
        turns = [user, assistant, again, assistant, again]
        dialogs = [dialog for end in range(1, 6) for dialog in (turns[:end], [system, *turns[:end]])]
        same = all(
            render(dialog, reply) == frames.render(dialog, reply) for dialog in dialogs for reply in (False, True)
        )
    except (
        InputError,
        ValueError,
        IndexError,
    ) as error:  # It refuses such a dialog, or writes a message twice or never.
        raise refusal from error
    if not same:
        raise refusal
    return frames


def go_template(frames: Frames) -> str:
    """The same frames as a template of Go. An answer that was begun is left open, for the model to go on with."""
    before, after = ({role: _verbatim(text) for role, text in side.items()} for side in (frames.before, frames.after))
    front = f"{{{{ if not .System }}}}{_verbatim(frames.no_system)}{{{{ end }}}}" if frames.no_system else ""
    return (
        front + "{{ range $place, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $place)) 1 }}"
        f'{{{{ if eq .Role "system" }}}}{before["system"]}{{{{ .Content }}}}{after["system"]}'
        f'{{{{ else if eq .Role "assistant" }}}}{before["assistant"]}{{{{ .Content }}}}'
        f"{{{{ if not $last }}}}{after['assistant']}{{{{ end }}}}"
        f"{{{{ else }}}}{before['user']}{{{{ .Content }}}}{after['user']}{{{{ end }}}}"
        f'{{{{ if and $last (ne .Role "assistant") }}}}{before["assistant"]}{{{{ end }}}}{{{{ end }}}}'
    )


def _verbatim(text: str) -> str:
    """Text that Go's template engine writes as it is."""
    return text.replace("{{", '{{ "{{" }}')
