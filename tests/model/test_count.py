"""Counts of floating-point operations against what torch counts as it runs, and against published figures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from herdsman.model.count import model_flops, recomputed_flops, training_flops, visible_keys
from herdsman.model.likelihood import token_logprobs
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions
from herdsman.recipe import load_recipe
from herdsman.training.parallel.recompute import Recompute, recompute

VOCAB, LENGTH, ROWS = 300, 48, 2
RECIPES = Path(__file__).parents[2] / "recipes"


def small(**changes: object) -> ModelOptions:
    sizes = {"layers": 3, "dim": 64, "heads": 4, "kv_heads": 2, "ffn_multiple_of": 32, "context_length": 64}
    return ModelOptions.model_validate(sizes | changes)


def counted(options: ModelOptions, what: Recompute, backend: SDPBackend) -> int:
    """Operations of a forward and a backward pass, as torch counts them while they run; attention whole."""

    def flash(q: list[int], k: list[int], v: list[int], *_: object, **__: object) -> int:
        return sdpa_flop_count(q, k, v)

    def flash_backward(grad: list[int], q: list[int], k: list[int], v: list[int], *_: object, **__: object) -> int:
        return sdpa_backward_flop_count(grad, q, k, v)

    on_cpu = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: flash,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: flash_backward,
    }
    model = Llama(options, VOCAB).initialise(0)
    for block in model.blocks.values():
        recompute(block, what)
    tokens = torch.randint(0, VOCAB, (ROWS, LENGTH))
    with sdpa_kernel(backend), FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        hidden = model(tokens)
        logprobs, _ = token_logprobs(hidden.flatten(0, 1), model.output_weight, tokens.flatten())
        logprobs.sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("what", ["none", "selective", "full"])
@pytest.mark.parametrize("changes", [{}, {"tied_embeddings": True}, {"head_dim": 32}])
def test_hardware_operations_are_those_that_run(what: Recompute, changes: dict[str, object]) -> None:
    options = small(**changes)
    ours = model_flops(options, VOCAB, LENGTH) + recomputed_flops(options, VOCAB, LENGTH, full=what == "full")
    assert counted(options, what, SDPBackend.FLASH_ATTENTION) == ours * ROWS * LENGTH


def test_model_operations_are_those_that_run_without_the_second_ones() -> None:
    """Plain attention computes no scores twice, so what runs beyond the model's operations is the logits alone."""
    options = small()
    logits = 2 * VOCAB * options.dim
    ran = counted(options, "none", SDPBackend.MATH) / (ROWS * LENGTH)
    assert ran - logits == model_flops(options, VOCAB, LENGTH)
    assert training_flops(options, VOCAB, 10, LENGTH) == 10 * model_flops(options, VOCAB, LENGTH)


def test_visible_keys_are_those_of_the_mask() -> None:
    lengths = [7, 1, 20, 4]
    mask = torch.block_diag(*(torch.ones(length, length).tril() for length in lengths))
    assert visible_keys(lengths) == pytest.approx(mask.sum().item() / sum(lengths), rel=1e-7)


@pytest.mark.parametrize(
    ("recipe", "matrices", "whole", "causal"),
    [("8b", 45.0e9, 57.9e9, 51.5e9), ("70b", None, 481.4e9, 449.2e9), ("405b", None, 2625e9, 2524e9)],
)
def test_published_operations_a_token(recipe: str, matrices: float | None, whole: float, causal: float) -> None:
    """At 8,192 tokens; both conventions are in use (8B: MosaicML, torchtitan 57.9 G; Megatron-Bridge 51.5 G)."""
    model = load_recipe(RECIPES / f"{recipe}.toml").model
    assert model_flops(model, 128_256, 8192) == pytest.approx(whole, rel=1e-3)
    assert model_flops(model, 128_256, 4096) == pytest.approx(causal, rel=1e-3)
    if matrices:
        assert model_flops(model, 128_256, 0) == pytest.approx(matrices, rel=1e-3)
