"""Weights of 8 bits through torch, and which runner a model gets."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch

from herdsman.generation.cache import PagedCache
from herdsman.generation.local import LocalEngine
from herdsman.generation.native import build
from herdsman.generation.native.runner import NativeRunner, _say
from herdsman.generation.quantize import FEW_ROWS, Int8Matrix, int8
from herdsman.generation.runner import TorchRunner, Weights, make_runner
from herdsman.generation.sampling import Sampling
from herdsman.generation.step import Step
from tests.generation.models import random_model, small_tokenizer


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CC", "no-such-compiler")
    build.attempt.cache_clear()
    _say.cache_clear()
    yield
    build.attempt.cache_clear()
    _say.cache_clear()


@pytest.mark.parametrize("rows", [1, 3, FEW_ROWS, FEW_ROWS + 1, 40])
def test_a_product_is_that_of_the_whole_numbers(rows: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    weights = [torch.randn(48, 80, generator=generator), 100 * torch.randn(33, 80, generator=generator)]
    weights[0][5] = 0
    x = torch.randn(rows, 80, generator=generator).bfloat16()
    matrix = Int8Matrix(weights)
    expected = x.float() @ (matrix.quants.float() * matrix.scales.float()[:, None]).T
    found = matrix(x).float()
    assert found.shape == (rows, 81)
    assert ((found - expected).abs() <= 0.01 * expected.abs() + 0.01 * expected.abs().mean(0)).all()
    assert not found[:, 5].any()


def test_rounding_moves_a_weight_by_half_a_step_at_most() -> None:
    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    matrix = Int8Matrix([weight])
    kept = matrix.quants.float() * matrix.scales.float()[:, None]
    assert ((kept - weight).abs() <= 0.505 * matrix.scales.float()[:, None]).all()


def test_a_model_in_8_bits_stays_close() -> None:
    model, ids = random_model(64, dim=64), torch.arange(50)
    with torch.no_grad():
        exact = model.logits(model(ids[None]))[0]
    runner = TorchRunner(model, torch.bfloat16, int8)
    cache = PagedCache(model.options, 4, runner.dtype)
    found = runner.forward(Step(ids, [0, 50], [0], [[0, 1, 2, 3]], torch.arange(50)), cache)
    assert torch.cosine_similarity(found, exact).mean() > 0.99


@pytest.mark.skipif(build.attempt()[0] is None, reason="no native kernel here")
@pytest.mark.parametrize("weights", ["bfloat16", "int8", "auto"])
def test_a_processor_gets_the_kernel(weights: Weights) -> None:
    assert isinstance(make_runner(random_model(), weights), NativeRunner)
    assert isinstance(make_runner(random_model(), "float32"), TorchRunner)


@pytest.mark.parametrize(
    ("weights", "dtype"), [("bfloat16", torch.bfloat16), ("int8", torch.bfloat16), ("auto", torch.float32)]
)
def test_without_a_compiler_torch_computes_and_that_is_said_once(
    no_compiler: None, caplog: pytest.LogCaptureFixture, weights: Weights, dtype: torch.dtype
) -> None:
    with caplog.at_level(logging.WARNING):
        runners = [make_runner(random_model(), weights) for _ in range(3)]
    assert all(isinstance(runner, TorchRunner) and runner.dtype == dtype for runner in runners)
    assert [record.getMessage() for record in caplog.records] == [
        "there is no C compiler (no-such-compiler); install gcc or clang to generate faster; "
        "torch generates instead, several times slower"
    ]


@pytest.mark.skipif(build.attempt()[0] is None, reason="no native kernel here")
@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_samples_are_the_same_alone_and_together(weights: Weights) -> None:
    """Not up to rounding: to the last bit, so the texts are equal however close two tokens are."""
    engine = LocalEngine(random_model(128), small_tokenizer(), weights=weights)
    prompts = [[(7 * row + place) % 200 for place in range(3 + 9 * (row % 4))] for row in range(12)]
    sampling = Sampling(40, temperature=1.0, top_p=0.95, stop_ids=frozenset())
    together = engine.generate([*prompts, *prompts], sampling)
    fresh = LocalEngine(random_model(128), small_tokenizer(), weights=weights)
    for row, completion in enumerate(together):
        [alone] = fresh.generate([[*prompts, *prompts][row]], sampling, rows=[row])
        assert alone.ids == completion.ids
