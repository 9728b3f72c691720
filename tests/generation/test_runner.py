"""Steps of many sequences at different places against the model on each sequence alone."""

from __future__ import annotations

from itertools import accumulate
from random import Random

import pytest
import torch
from torch import Tensor

from herdsman.errors import MachineError
from herdsman.generation.cache import BLOCK_TOKENS, PagedCache, blocks_for
from herdsman.generation.float8 import Float8Matrix, quantize_rows
from herdsman.generation.runner import Runner, Step, TorchRunner, make_runner
from herdsman.model.llama import Llama
from tests.generation.models import random_model, small_tokenizer

VOCAB = small_tokenizer().vocab_size
SHAPES = [
    {},
    {"heads": 4, "kv_heads": 1, "tied_embeddings": True},
    {"heads": 3, "kv_heads": 3, "head_dim": 10, "dim": 24, "rope_scaling": {"factor": 8.0, "original_context": 16}},
]


def whole(model: Llama, ids: list[int]) -> Tensor:
    with torch.no_grad():
        return model.logits(model(torch.tensor([ids])))[0]


def walk(runner: Runner, sequences: list[list[int]], random: Random, trunk: int = 0) -> list[Tensor]:
    """Logits of all tokens of the sequences, computed in steps of random stretches, many of one token. The first
    `trunk` tokens are the same in all, and computed once."""
    cache = PagedCache(runner.options, 200, runner.dtype, runner.device)
    free = list(range(200))
    random.shuffle(free)
    shared = [free.pop() for _ in range(trunk // BLOCK_TOKENS)]
    tables = [shared + [free.pop() for _ in range(blocks_for(len(ids)) - len(shared))] for ids in sequences]
    done = [0 if row == 0 else trunk for row in range(len(sequences))]
    found: list[list[Tensor]] = [[] for _ in sequences]
    while any(count < len(ids) for count, ids in zip(done, sequences, strict=True)):
        lead = done[0] < trunk
        rows = [row for row, ids in enumerate(sequences) if done[row] < len(ids) and (random.random() < 0.8 or lead)]
        rows = rows[:1] if lead else rows
        counts = [min(random.choice([1, 1, 1, 7, 30]), len(sequences[row]) - done[row]) for row in rows]
        tokens = [id for row, count in zip(rows, counts, strict=True) for id in sequences[row][done[row] :][:count]]
        if not rows:
            continue
        step = Step(
            torch.tensor(tokens),
            [0, *accumulate(counts)],
            [done[row] for row in rows],
            [tables[row] for row in rows],
            torch.arange(len(tokens)),
        )
        logits = runner.forward(step, cache)
        assert logits.dtype == torch.float32
        for row, count, part in zip(rows, counts, logits.split(counts), strict=True):
            done[row] += count
            found[row].append(part)
    return [torch.cat(parts) for parts in found]


@pytest.mark.parametrize("trunk", [0, 16, 160])
@pytest.mark.parametrize("shape", SHAPES)
def test_ragged_steps_equal_the_whole_sequence(shape: dict, trunk: int) -> None:
    random, model = Random(len(str(shape)) + trunk), random_model(256, **shape)
    beginning = [random.randrange(VOCAB) for _ in range(trunk)]
    sequences = [beginning + [random.randrange(VOCAB) for _ in range(random.randint(1, 70))] for _ in range(9)]
    found = walk(TorchRunner(model, torch.float32), sequences, random, trunk)
    for row, (ids, logits) in enumerate(zip(sequences, found, strict=True)):
        expected = whole(model, ids)[-len(logits) :]
        assert len(logits) == len(ids) - (trunk if row else 0)
        assert (logits - expected).abs().max() < 2e-3 * expected.abs().max().clamp(min=1) / 10
        assert torch.equal(logits.argmax(-1), expected.argmax(-1))


def test_float32_weights_are_used_where_they_are() -> None:
    model = random_model()
    runner = make_runner(model, "float32")
    step = Step(torch.tensor([1, 2]), [0, 2], [0], [[0]], torch.tensor([1]))
    cache = PagedCache(model.options, 1, torch.float32)
    before = runner.forward(step, cache)
    with torch.no_grad():
        model.blocks["0"].ffn.down_proj.weight.mul_(2.0)
        model.blocks["1"].attention.q_proj.weight.mul_(2.0)
    assert not torch.equal(runner.forward(step, cache), before)


def test_bfloat16_stays_close() -> None:
    model = Llama(random_model(256).options, VOCAB).initialise(0).eval()
    random = Random(0)
    sequences = [[random.randrange(VOCAB) for _ in range(60)] for _ in range(4)]
    for ids, logits in zip(sequences, walk(make_runner(model, "bfloat16"), sequences, random), strict=True):
        expected = whole(model, ids)
        assert torch.cosine_similarity(logits, expected, dim=-1).min() > 0.999


def test_a_model_that_scores_gives_one_number() -> None:
    model = Llama(random_model(256).options, VOCAB, scores=True).initialise(0).eval()
    ids = list(range(40))
    [found] = walk(TorchRunner(model, torch.float32), [ids], Random(0))
    assert found.shape == (40, 1)
    assert torch.allclose(found, whole(model, ids), atol=1e-5)


def test_float8_products_are_those_of_the_rounded_numbers() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(32, 64, generator=generator) for _ in range(2)]
    x = torch.randn(5, 64, generator=generator).bfloat16()
    x[3] = 0
    rounded, scales = quantize_rows(torch.cat(weights), None)
    own, own_scales = quantize_rows(x, 1200.0)
    expected = (own.float() * own_scales) @ (rounded.float() * scales).T
    found = Float8Matrix(weights)(x)
    assert found.dtype == torch.bfloat16
    assert (found - expected).abs().max() <= 2**-8 * expected.abs().max()
    assert (found - x.float() @ torch.cat(weights).T).abs().max() < 0.06 * expected.abs().max()
    assert not found[3].any()


def test_float8_scales_are_made_for_values_up_to_1200() -> None:
    x = torch.tensor([[1.0, -600.0, 3.0], [1.0, 48_000.0, 3.0]])
    quants, scales = quantize_rows(x, 1200.0)
    assert torch.allclose(scales[:, 0] * 448, torch.tensor([600.0, 1200.0]))
    assert torch.allclose((quants.float() * scales)[1], torch.tensor([1.0, 1200.0, 3.0]), rtol=0.07)


def test_float8_needs_a_gpu_that_has_it() -> None:
    if torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 9):
        pytest.skip("this machine has one")
    with pytest.raises(MachineError, match="no GPU here that multiplies in float8; use the weights bfloat16 or int8"):
        make_runner(random_model(), "float8")
