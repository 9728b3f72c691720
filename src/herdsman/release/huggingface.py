"""Export to a Hugging Face folder: what `transformers` (4.45 and newer, also 5) and others read.

The decoder already pairs rotary dimensions as Hugging Face does (i with i + width / 2), so weights keep their values
and only change their names. (Meta's checkpoints interleave the pairs: theirs would need q and k permuted.)
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save

from herdsman.files import atomic_folder, read_json, write_json, write_text
from herdsman.model.options import ModelOptions
from herdsman.release.chat_template import CHAT_TEMPLATE
from herdsman.tokens.tokenizer import Tokenizer

_TOP_LEVEL = {
    "embedding.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_BLOCK = {
    "attention_norm": "input_layernorm",
    "attention.q_proj": "self_attn.q_proj",
    "attention.k_proj": "self_attn.k_proj",
    "attention.v_proj": "self_attn.v_proj",
    "attention.o_proj": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn.gate_proj": "mlp.gate_proj",
    "ffn.up_proj": "mlp.up_proj",
    "ffn.down_proj": "mlp.down_proj",
}


def export(model_folder: Path, tokenizer_folder: Path, out: Path, temperature: float = 0.6, top_p: float = 0.9) -> None:
    """Writes the folder whole or not at all; the same model gives the same bytes.

    Args:
        model_folder: `config.json` and `model.safetensors` as `model.store` writes them.
        tokenizer_folder: the tokenizer stage's folder.
        out: folder to make, replaced if it exists.
        temperature, top_p: defaults of `generation_config.json`, as in Meta's code (recipe sheet 7.4).
    """
    config = read_json(model_folder / "config.json")
    model, vocab_size = ModelOptions(**config["model"]), int(config["vocab_size"])
    tokenizer = Tokenizer.load(tokenizer_folder)
    with atomic_folder(out) as folder:
        with safe_open(model_folder / "model.safetensors", framework="pt") as weights:
            state = {hugging_face_name(name): weights.get_tensor(name) for name in sorted(weights.keys())}
        (folder / "model.safetensors").write_bytes(save(dict(sorted(state.items())), metadata={"format": "pt"}))
        write_json(folder / "config.json", model_config(model, vocab_size, tokenizer))
        write_json(folder / "generation_config.json", generation_config(tokenizer, temperature, top_p))
        shutil.copyfile(tokenizer_folder / "tokenizer.json", folder / "tokenizer.json")
        write_json(folder / "tokenizer_config.json", tokenizer_config(model, tokenizer))
        write_json(folder / "special_tokens_map.json", _special_tokens(tokenizer))
        write_text(folder / "chat_template.jinja", CHAT_TEMPLATE)


def hugging_face_name(name: str) -> str:
    """Name of a weight in Hugging Face's Llama: blocks.3.ffn.up_proj.weight -> model.layers.3.mlp.up_proj.weight."""
    if name in _TOP_LEVEL:
        return _TOP_LEVEL[name]
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)\.weight", name)
    if match is None:
        raise KeyError(name)
    return f"model.layers.{match[1]}.{_IN_BLOCK[match[2]]}.weight"


def model_config(model: ModelOptions, vocab_size: int, tokenizer: Tokenizer) -> dict[str, Any]:
    """`config.json`. Rotary settings stand twice: `rope_theta` and `rope_scaling` for transformers 4, `rope_parameters`
    for 5."""
    scaling = None
    if model.rope_scaling is not None:
        scaling = {
            "rope_type": "llama3",
            "factor": model.rope_scaling.factor,
            "low_freq_factor": model.rope_scaling.low_freq_factor,
            "high_freq_factor": model.rope_scaling.high_freq_factor,
            "original_max_position_embeddings": model.rope_scaling.original_context,
        }
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab_size,
        "hidden_size": model.dim,
        "intermediate_size": model.ffn_dim,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_width,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "max_position_embeddings": model.context_length,
        "rms_norm_eps": model.norm_eps,
        "rope_theta": model.rope_theta,
        "rope_scaling": scaling,
        "rope_parameters": {"rope_type": "default", **(scaling or {}), "rope_theta": model.rope_theta},
        "tie_word_embeddings": model.tied_embeddings,
        "bos_token_id": tokenizer.bos,
        "eos_token_id": sorted(tokenizer.stop_ids),
        "pad_token_id": tokenizer.pad,
        "initializer_range": model.initial_std,
        "torch_dtype": "float32",
        "use_cache": True,
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
