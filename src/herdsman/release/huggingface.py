"""Export to a Hugging Face folder: what `transformers` (4.45 and newer, also 5) and others read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from herdsman.files import atomic_folder, read_json, write_json, write_text
from herdsman.model.huggingface import SHARD_BYTES, Dtype, to_config, write_weights
from herdsman.model.options import ModelOptions
from herdsman.model.store import CONFIG, WEIGHTS
from herdsman.release.chat_template import CHAT_TEMPLATE
from herdsman.tokens.tokenizer import Tokenizer


def export(
    model_folder: Path,
    tokenizer_folder: Path,
    out: Path,
    temperature: float = 0.6,
    top_p: float = 0.9,
    dtype: Dtype = "float32",
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes the folder whole or not at all; the same model gives the same bytes.

    Args:
        model_folder: `config.json` and `model.safetensors` as `model.store` writes them.
        tokenizer_folder: the tokenizer stage's folder.
        out: folder to make, replaced if it exists.
        temperature, top_p: defaults of `generation_config.json`, as in Meta's code (recipe sheet 7.4).
        dtype: type the weights are rounded to.
        shard_bytes: largest file of weights.
    """
    config = read_json(model_folder / CONFIG)
    model, vocab_size = ModelOptions(**config["model"]), int(config["vocab_size"])
    tokenizer = Tokenizer.load(tokenizer_folder)
    with atomic_folder(out) as folder:
        write_weights(model_folder / WEIGHTS, folder, dtype, shard_bytes)
        write_json(folder / "config.json", model_config(model, vocab_size, tokenizer, dtype))
        write_json(folder / "generation_config.json", generation_config(tokenizer, temperature, top_p))
        shutil.copyfile(tokenizer_folder / "tokenizer.json", folder / "tokenizer.json")
        write_json(folder / "tokenizer_config.json", tokenizer_config(model, tokenizer))
        write_json(folder / "special_tokens_map.json", _special_tokens(tokenizer))
        write_text(folder / "chat_template.jinja", CHAT_TEMPLATE)


def model_config(model: ModelOptions, vocab_size: int, tokenizer: Tokenizer, dtype: Dtype) -> dict[str, Any]:
    return to_config(model, vocab_size, dtype) | {
        "bos_token_id": tokenizer.bos,
        "eos_token_id": sorted(tokenizer.stop_ids),
        "pad_token_id": tokenizer.pad,
    }


def generation_config(tokenizer: Tokenizer, temperature: float, top_p: float) -> dict[str, Any]:
    return {
        "bos_token_id": tokenizer.bos,
        "eos_token_id": sorted(tokenizer.stop_ids),
        "pad_token_id": tokenizer.pad,
        "do_sample": True,
        "temperature": temperature,
        "top_p": top_p,
    }


def tokenizer_config(model: ModelOptions, tokenizer: Tokenizer) -> dict[str, Any]:
    """`tokenizer_config.json`; the generic fast class reads `tokenizer.json` as it is in any transformers."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **_special_tokens(tokenizer),
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
            for name, id in sorted(tokenizer.special.items(), key=lambda item: item[1])
        },
        "chat_template": CHAT_TEMPLATE,
    }


def _special_tokens(tokenizer: Tokenizer) -> dict[str, str]:
    names = {id: name for name, id in tokenizer.special.items()}
    return {"bos_token": names[tokenizer.bos], "eos_token": names[tokenizer.eot], "pad_token": names[tokenizer.pad]}
