"""Who trains in `speed.py`: the same Llama in Herdsman, in transformers and in litgpt, each with its own step.

All start from the same weights and take the same tokens, AdamW (torch's fused one) and clipping at a norm of 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from herdsman.model.huggingface import NAMES, to_config
from herdsman.model.llama import initialise
from herdsman.model.options import ModelOptions
from herdsman.training.objective import Batch, NextToken
from herdsman.training.optimizer import make_optimizer
from herdsman.training.options import OptimizerOptions
from herdsman.training.parallel.build import lay_out
from herdsman.training.parallel.layout import Layout, LayoutOptions
from herdsman.training.parallel.running import Running

RATE, SEED = 1e-3, 1
Step = Callable[[], float]
"""Forward, loss, backward, clipping and update on the size's tokens; gives the loss before the update."""


@dataclass(frozen=True)
class Size:
    """A model and the batch of one step."""

    model: ModelOptions
    vocab_size: int
    rows: int
    length: int

    @property
    def tokens(self) -> int:
        return self.rows * self.length

    def batch(self) -> tuple[Tensor, Tensor]:
        """Tokens and their targets, [rows, length] each."""
        ids = torch.randint(
            0, self.vocab_size, (self.rows, self.length + 1), generator=torch.Generator().manual_seed(2)
        )
        return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def documents(self) -> Tensor:
        """Document numbers [rows, length]: log-normal lengths, 240 tokens on average."""
        lengths = torch.empty(self.rows, self.length).log_normal_(5.0, 1.0, generator=torch.Generator().manual_seed(3))
        ends = lengths.ceil().long().cumsum(1)
        return torch.searchsorted(ends, torch.arange(self.length).expand(self.rows, -1).contiguous(), right=True)

    def weights(self) -> dict[str, Tensor]:
        """Initial weights by Herdsman's names."""
        from herdsman.model.llama import Llama

        return dict(Llama(self.model, self.vocab_size).initialise(SEED).state_dict())


def _size(vocab_size: int, rows: int, length: int, **dimensions: int) -> Size:
    return Size(ModelOptions(**dimensions, context_length=length), vocab_size, rows, length)  # type: ignore[arg-type]


SIZES = {
    "5M": _size(4096, 4, 512, layers=4, dim=256, heads=8, kv_heads=4, ffn_width=768),
    "34M": _size(32_000, 4, 512, layers=6, dim=384, heads=6, kv_heads=2, ffn_width=1024),
    "128k vocabulary": _size(128_256, 8, 512, layers=4, dim=256, heads=8, kv_heads=4, ffn_width=768),
}


def herdsman(size: Size, precision: torch.dtype, documents: bool = False, compiled: bool = False) -> Step:
    """As `training.loop` does it."""

    def fill(name: str, parameter: Tensor) -> None:
        initialise(name, parameter, size.model, SEED)

    layout = Layout.of(LayoutOptions(), 1)
    running = Running(precision=precision, compile=compiled)
    model = lay_out(size.model, size.vocab_size, layout, torch.device("cpu"), fill, running)
    optimizer = make_optimizer(model.named_parameters(), OptimizerOptions(), precision)
    tokens, targets = size.batch()
    by_token = {"targets": targets, "weights": torch.ones(targets.shape)}
    batch = Batch(tokens, size.documents() if documents else None, by_token)

    def step() -> float:
        sums = model.train_step([batch], NextToken())
        model.scale_gradients(1 / sums.weight)
        norm = model.gradient_norm()
        for group in optimizer.param_groups:
            group["lr"] = RATE
        if norm > 1:
            model.scale_gradients(1 / norm)
        optimizer.step()
        return sums.total / sums.weight

    return step


def _peer(model: nn.Module, loss_of: Callable[[], Tensor], precision: torch.dtype) -> Step:
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step() -> float:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss = loss_of()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def transformers(size: Size, precision: torch.dtype) -> Step:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = to_config(size.model, size.vocab_size) | {"use_cache": False}
    model = LlamaForCausalLM(LlamaConfig(**config, attn_implementation="sdpa"))
    model.load_state_dict({NAMES.theirs(name): weight for name, weight in size.weights().items()})
    tokens, targets = size.batch()
    return _peer(model.train(), lambda: model(tokens, labels=targets, shift_labels=targets).loss, precision)


def litgpt(size: Size, precision: torch.dtype, compiled: bool = False) -> Step:
    """litgpt's model and loss; its `pretrain` compiles the model, hence `compiled`."""
    from litgpt.config import Config
    from litgpt.model import GPT
    from litgpt.utils import chunked_cross_entropy

    options = size.model
    config = Config(
        block_size=size.length, vocab_size=size.vocab_size, padded_vocab_size=size.vocab_size, n_layer=options.layers,
        n_embd=options.dim, n_head=options.heads, n_query_groups=options.kv_heads, head_size=options.head_width,
        intermediate_size=options.ffn_dim, norm_class_name="RMSNorm", norm_eps=options.norm_eps,
        mlp_class_name="LLaMAMLP", rotary_percentage=1.0, parallel_residual=False, bias=False,
        rope_base=int(options.rope_theta),
    )  # fmt: skip
    model: Any = GPT(config)
    model.load_state_dict(_for_litgpt(size.weights(), options.layers))
    run = torch.compile(model) if compiled else model
    tokens, targets = size.batch()
    return _peer(model.train(), lambda: chunked_cross_entropy(run(tokens), targets), precision)


def _for_litgpt(weights: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    found = {
        "transformer.wte.weight": weights["embedding.weight"],
        "transformer.ln_f.weight": weights["norm.weight"],
        "lm_head.weight": weights["output.weight"],
    }
    table = {
        "norm_1": "attention_norm", "attn.proj": "attention.o_proj", "norm_2": "ffn_norm", "mlp.fc_1": "ffn.gate_proj",
        "mlp.fc_2": "ffn.up_proj", "mlp.proj": "ffn.down_proj",
    }  # fmt: skip
    for layer in range(layers):
        theirs, ours = f"transformer.h.{layer}.", f"blocks.{layer}."
        found |= {f"{theirs}{their}.weight": weights[f"{ours}{our}.weight"] for their, our in table.items()}
        found[f"{theirs}attn.qkv.weight"] = torch.cat([weights[f"{ours}attention.{x}_proj.weight"] for x in "qkv"])
    return found


CONTENDERS: dict[str, Callable[[Size], Step]] = {
    "Herdsman, bf16": lambda size: herdsman(size, torch.bfloat16),
    "Herdsman, bf16, documents": lambda size: herdsman(size, torch.bfloat16, documents=True),
    "Herdsman, bf16, compiled": lambda size: herdsman(size, torch.bfloat16, compiled=True),
    "Herdsman, fp32": lambda size: herdsman(size, torch.float32),
    "transformers, fp32": lambda size: transformers(size, torch.float32),
    "transformers, bf16": lambda size: transformers(size, torch.bfloat16),
    "litgpt, fp32": lambda size: litgpt(size, torch.float32),
    "litgpt, bf16": lambda size: litgpt(size, torch.bfloat16),
    "litgpt, bf16, compiled": lambda size: litgpt(size, torch.bfloat16, compiled=True),
}
