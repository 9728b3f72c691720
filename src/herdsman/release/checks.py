"""What is made sure of before a release goes out: the export says the same as the herd's own model and tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment
from safetensors.torch import load_file
from tokenizers import Tokenizer as HuggingFaceTokenizer

from herdsman.files import read_json
from herdsman.model.count import count_parameters
from herdsman.model.huggingface import NAMES, read_weights
from herdsman.model.options import ModelOptions
from herdsman.tokens.chat import Message, encode
from herdsman.tokens.tokenizer import Tokenizer

DIALOG = (
    Message("system", "Answer in one sentence."),
    Message("user", "How do I open a file?\n\n  with open(path) as file:  # like this?"),
    Message("assistant", "Yes: “with” closes it for you."),
    Message("ipython", '{"status": "ok", "größe": 3}'),
    Message("user", " Thank you. "),
)


def check_export(
    folder: Path, model_folder: Path, tokenizer_folder: Path, texts: Iterable[str]
) -> list[dict[str, str]]:
    """Compares an exported folder with what it was made from.

    Args:
        folder: what `huggingface.export` wrote.
        texts: texts to tokenize both ways.

    Returns:
        One row a check: its name and what was found.

    Raises:
        RuntimeError: the export differs, which is a defect of the exporter.
    """
    tokenizer = Tokenizer.load(tokenizer_folder)
    theirs = HuggingFaceTokenizer.from_file(str(folder / "tokenizer.json"))
    return [
        {"name": "weights equal the model's, bit for bit", "result": _weights(folder, model_folder)},
        {"name": "tokenizer.json gives the same ids", "result": _ids(tokenizer, theirs, texts)},
        {"name": "the chat template gives the same ids", "result": _dialogs(tokenizer, theirs, folder)},
    ]


def _weights(folder: Path, model_folder: Path) -> str:
    ours, exported = load_file(model_folder / "model.safetensors"), dict(read_weights(folder))
    if {NAMES.theirs(name) for name in ours} != set(exported):
        raise RuntimeError("the export does not hold the model's weights")
    for name, tensor in ours.items():
        if not torch.equal(tensor, exported[NAMES.theirs(name)]):
            raise RuntimeError(f"the export changed {name}")
    config = read_json(model_folder / "config.json")
    expected = count_parameters(ModelOptions(**config["model"]), config["vocab_size"]).total
    parameters = sum(tensor.numel() for tensor in exported.values())
    if parameters != expected:
        raise RuntimeError(f"the export holds {parameters} parameters, the model {expected}")
    return f"{len(exported)} tensors, {parameters:,} parameters"


def _ids(tokenizer: Tokenizer, theirs: HuggingFaceTokenizer, texts: Iterable[str]) -> str:
    documents = tokens = 0
    for text in texts:
        if any(name in text for name in tokenizer.special):
            continue  # Hugging Face's tokenizer reads such names as special tokens, ours never does
        ids = tokenizer.encode(text)
        if theirs.encode(text, add_special_tokens=False).ids != ids:
            raise RuntimeError(f"tokenizer.json gives other ids for a text that begins {text[:60]!r}")
        documents, tokens = documents + 1, tokens + len(ids)
    return f"{tokens:,} tokens of {documents:,} held-out documents"


def _dialogs(tokenizer: Tokenizer, theirs: HuggingFaceTokenizer, folder: Path) -> str:
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    dialogs = [DIALOG[:end] for end in range(1, len(DIALOG) + 1)]
    for dialog in dialogs:
        for reply in (False, True):
            text = render_chat(template, dialog, reply, bos="<|begin_of_text|>")
            if theirs.encode(text, add_special_tokens=False).ids != encode(tokenizer, dialog, reply)[0]:
                raise RuntimeError(f"the chat template gives other ids for a dialog of {len(dialog)} messages")
    return f"{len(dialogs)} dialogs, with and without the header of a reply"


def render_chat(template: str, messages: Sequence[Message], reply: bool, bos: str) -> str:
    """A chat template as Hugging Face's tools render it: sandboxed, blocks trimmed on both sides."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    rows = [{"role": message.role, "content": message.content} for message in messages]
    return environment.from_string(template).render(messages=rows, add_generation_prompt=reply, bos_token=bos)
