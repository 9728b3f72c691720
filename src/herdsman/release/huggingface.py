"""Export to a Hugging Face folder: what `transformers` (4.45 and newer, also 5) and others read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from herdsman.files import atomic_folder, write_json, write_text
from herdsman.model.count import count_parameters
from herdsman.model.huggingface import SHARD_BYTES, Dtype, to_config, write_weights
from herdsman.model.options import ModelOptions
from herdsman.model.store import WEIGHTS, read_config
from herdsman.progress import SILENT, Progress
from herdsman.release.protocol import Protocol, protocol_of
from herdsman.tokens.foreign import load_tokenizer


def export(
    model_folder: Path,
    tokenizer_folder: Path,
    out: Path,
    temperature: float = 0.6,
    top_p: float = 0.9,
    dtype: Dtype = "float32",
    shard_bytes: int = SHARD_BYTES,
    chats: bool = True,
    progress: Progress = SILENT,
) -> None:
    """Writes the folder whole or not at all; the same model gives the same bytes.

    Args:
        model_folder: `config.json` and `model.safetensors` as `model.store` writes them.
        tokenizer_folder: the tokenizer stage's folder, or that of an imported model.
        out: folder to make, replaced if it exists.
        temperature, top_p: defaults of `generation_config.json`, as in Meta's code (recipe sheet 7.4).
        dtype: type the weights are rounded to.
        shard_bytes: largest file of weights.
        chats: it is a chat model; a base model gets no chat template and ends where a text does.

    Raises:
        InputError: a folder holds no model or no tokenizer.
    """
    model, vocab_size, _ = read_config(model_folder)
    tokenizer = load_tokenizer(tokenizer_folder)
    protocol = protocol_of(tokenizer, chats)
    generation = {"do_sample": True, "temperature": temperature, "top_p": top_p}
    with atomic_folder(out) as folder:
        parameters = count_parameters(model, vocab_size).total
        with progress.task("export", total=parameters, unit="parameters") as task:
            write_weights(model_folder / WEIGHTS, folder, dtype, shard_bytes, task.advance)
        write_json(folder / "config.json", to_config(model, vocab_size, dtype) | _ids(protocol))
        write_json(folder / "generation_config.json", generation | _ids(protocol))
        shutil.copyfile(tokenizer_folder / "tokenizer.json", folder / "tokenizer.json")
        write_json(folder / "tokenizer_config.json", _tokenizer_config(model, protocol))
        write_json(folder / "special_tokens_map.json", protocol.special_tokens)
        if protocol.chat_template:
            write_text(folder / "chat_template.jinja", protocol.chat_template)


def _ids(protocol: Protocol) -> dict[str, Any]:
    ends = sorted(protocol.ends) or None
    return {"bos_token_id": protocol.bos, "eos_token_id": ends, "pad_token_id": protocol.pad}


def _tokenizer_config(model: ModelOptions, protocol: Protocol) -> dict[str, Any]:
    """`tokenizer_config.json`; the generic fast class reads `tokenizer.json` as it is in any transformers."""
    template = {"chat_template": protocol.chat_template} if protocol.chat_template else {}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **protocol.special_tokens,
        "model_max_length": model.context_length,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {
            str(id): {
                "content": name,
                "special": True,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "single_word": False,
            }
            for id, name in sorted(protocol.names.items())
        },
        **template,
    }
