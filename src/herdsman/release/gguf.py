"""Export to one GGUF file: what llama.cpp and everything built on it (Ollama, LM Studio, ...) runs."""

from __future__ import annotations

from pathlib import Path

from gguf import GGUFWriter

from herdsman.errors import InputError
from herdsman.model.gguf_vocabulary import add_vocabulary
from herdsman.model.gguf_writer import Type, write_gguf
from herdsman.model.store import read_config
from herdsman.progress import SILENT, Progress
from herdsman.release.protocol import Protocol, protocol_of
from herdsman.tokens.foreign import load_tokenizer
from herdsman.tokens.vocabulary import HUGGINGFACE_FILE


def export(
    model_folder: Path,
    tokenizer_folder: Path,
    out: Path,
    type: Type = "f16",
    chats: bool = True,
    name: str | None = None,
    licence: str | None = None,
    progress: Progress = SILENT,
) -> dict[str, int]:
    """Writes the file whole or not at all; the same model gives the same bytes.

    Args:
        model_folder: `config.json` and `model.safetensors` as `model.store` writes them.
        tokenizer_folder: the tokenizer stage's folder, or that of an imported model.
        out: the file, replaced if it exists.
        type: how matrices are stored.
        chats: it is a chat model; a base model gets no chat template and ends where a text does.
        name, licence: of the model, for the file's metadata.

    Returns:
        How many tensors are stored in each type.

    Raises:
        InputError: a folder holds no model or no tokenizer, or llama.cpp cannot be told of this vocabulary.
    """
    _, rows, _ = read_config(model_folder)
    protocol = protocol_of(load_tokenizer(tokenizer_folder), chats)
    tokenizer_json = (tokenizer_folder / HUGGINGFACE_FILE).read_text(encoding="utf-8")

    def add_metadata(writer: GGUFWriter) -> None:
        writer.add_name(name or "")
        writer.add_license(licence or "")
        add_vocabulary(writer, tokenizer_json, rows, tokenizer_folder)
        _add_protocol(writer, protocol, tokenizer_folder)

    return write_gguf(out, model_folder, type, add_metadata, progress)


def _add_protocol(writer: GGUFWriter, protocol: Protocol, where: Path) -> None:
    """Ids of the tokens that begin and end a text, and the chat template."""
    # A key each for the ends of a text, a turn and a message; llama.cpp stops at all three alike.
    add_end = (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id)
    if len(protocol.ends) > len(add_end):
        raise InputError(
            f"{len(protocol.ends)} tokens end what this model writes and GGUF has room for {len(add_end)}",
            where=where,
            do="export with --to hf",
        )
    for add, id in zip(add_end, protocol.ends, strict=False):
        add(id)
    # Without a token for the beginning, the end's stands for it, as in GPT-2: else llama.cpp takes number 11.
    begin = protocol.bos if protocol.bos is not None else next(iter(protocol.ends), None)
    if begin is not None:
        writer.add_bos_token_id(begin)
    writer.add_add_bos_token(protocol.bos is not None)
    writer.add_pad_token_id(protocol.pad)
    if protocol.chat_template:
        writer.add_chat_template(protocol.chat_template)
