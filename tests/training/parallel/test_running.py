"""How layers run must not change what they compute: recomputation, resharding, compilation, and lower precision."""

from __future__ import annotations

import shutil
from collections import Counter
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from herdsman.errors import MachineError
from herdsman.training.objective import Batch, NextToken
from herdsman.training.parallel.float8 import to_float8
from herdsman.training.parallel.layout import LayoutOptions
from herdsman.training.parallel.recompute import _KEPT, Recompute
from herdsman.training.parallel.running import Running
from tests.processes import run
from tests.training.parallel.reference import OPTIONS, rows_of
from tests.training.parallel.steps import gradients_of, make, share_of

BF16 = torch.bfloat16
WAYS: tuple[Recompute, ...] = ("none", "selective", "full")
BORDER = 2**-9
"""A number smaller than half the distance of bfloat16 numbers between 1 and 2."""


def step(layout: LayoutOptions, running: Running, rows: int = 4) -> tuple[float, dict[str, Tensor]]:
    """Loss a token, and the summed gradients."""
    model = make(OPTIONS, layout, running)
    sums = model.train_step(share_of(model, rows_of(0), rows), NextToken())
    return sums.total / sums.weight, gradients_of(model)


def equal(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


def distance(some: dict[str, Tensor], others: dict[str, Tensor]) -> float:
    """Of gradients, relatively: the norm of what differs over the norm."""
    differing = sum((some[name] - others[name]).square().sum() for name in others)
    return float(differing / sum(other.square().sum() for other in others.values())) ** 0.5


@pytest.mark.parametrize("precision", [torch.float32, BF16])
def test_what_is_computed_again_is_bit_for_bit_the_same(precision: torch.dtype) -> None:
    losses, gradients = zip(*(step(LayoutOptions(), Running(precision, recompute=way)) for way in WAYS), strict=True)
    assert losses[0] == losses[1] == losses[2]
    assert equal(gradients[1], gradients[0])
    assert equal(gradients[2], gradients[0])


class Counted(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.counts[operation.name()] += 1
        return operation(*args, **(kwargs or {}))


def operations(way: Recompute) -> tuple[Counter[str], int]:
    """How often a step runs each operation, and how many numbers it keeps for its backward pass."""
    kept: list[int] = []
    model = make(OPTIONS, LayoutOptions(), Running(attention="dense", recompute=way))
    batches = share_of(model, rows_of(0), 8)
    keeping = torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x)
    with Counted() as counted, keeping:
        model.train_step(batches, NextToken())
    return counted.counts, sum(kept)


def test_selective_recomputation_repeats_what_is_cheap_and_nothing_else() -> None:
    (none, most), (selective, _), (full, least) = (operations(way) for way in WAYS)
    for name in ("aten::mm", "aten::_scaled_dot_product_flash_attention_for_cpu"):
        assert 0 < none[name] == selective[name] < full[name]
    assert none["aten::silu"] < selective["aten::silu"] == full["aten::silu"]
    assert least < most / 4


def test_what_is_kept_is_there() -> None:
    """A name that no operation has would keep nothing, and nobody would notice."""
    import torch.nn.attention.varlen
    from torch._higher_order_ops.flex_attention import flex_attention

    for name in _KEPT - {flex_attention.name()}:
        namespace, _, operation = name.partition("::")
        assert getattr(getattr(torch.ops, namespace), operation).default.name() == name


def on_two_ranks() -> dict[str, tuple[float, dict[str, Tensor]]]:
    """Everything that is measured on two ranks, for processes are slow to start."""
    sharded = LayoutOptions(data=2)
    found = {"float32": step(sharded, Running()), "bfloat16": step(sharded, Running(BF16))}
    found["reshard"] = step(LayoutOptions(data=2, reshard_after_forward=True), Running(), rows=2)
    found["keep"] = step(sharded, Running(), rows=2)
    for way in WAYS:
        for axis in ("tensor", "context"):
            found[f"{axis} {way}"] = step(LayoutOptions(**{axis: 2}), Running(BF16, recompute=way))
    for axis in ("data", "tensor", "pipeline") if find_spec("torchao") else ():
        found[f"float8 {axis}"] = step(LayoutOptions(**{axis: 2}), Running(BF16, fp8=True))
    found["tiny"] = tiny()
    return found


def tiny() -> tuple[float, dict[str, Tensor]]:
    """A micro-batch, and 64 more that weigh next to nothing, over two ranks; over the gradient of the first one alone.

    All are the same rows, so the sum is the first one's gradient times what all weigh.
    """
    model = make(OPTIONS.model_copy(update={"layers": 1}), LayoutOptions(data=2), Running(BF16))
    everyone = rows_of(1)
    rows = Batch(everyone.tokens[:1], None, {name: field[:1] for name, field in everyone.by_token.items()})

    def times(factor: float) -> Batch:
        return Batch(rows.tokens, None, {**rows.by_token, "weights": rows.by_token["weights"] * factor})

    model.train_step([times(1.0 - model.data_rank)], NextToken())
    first = gradients_of(model)
    model.train_step([times(BORDER if model.data_rank else 1.0), *[times(BORDER)] * 32], NextToken())
    ratios = {
        name: (gradient.square().sum() / first[name].square().sum()).sqrt()
        for name, gradient in gradients_of(model).items()
    }
    return 1 + 65 * BORDER, ratios


@pytest.fixture(scope="module")
def two_ranks() -> list[dict[str, tuple[float, dict[str, Tensor]]]]:
    return run(on_two_ranks, 2, timeout_seconds=240)


def test_bfloat16_is_close_to_float32(two_ranks: list[dict[str, tuple[float, dict[str, Tensor]]]]) -> None:
    for found in two_ranks:
        assert found["bfloat16"][0] == pytest.approx(found["float32"][0], rel=2e-3)
        assert 1e-4 < distance(found["bfloat16"][1], found["float32"][1]) < 0.03
        assert all(gradient.dtype == torch.float32 for gradient in found["bfloat16"][1].values())


def test_gradients_are_summed_in_float32(two_ranks: list[dict[str, tuple[float, dict[str, Tensor]]]]) -> None:
    assert float(torch.tensor(1.0, dtype=BF16) + torch.tensor(BORDER, dtype=BF16)) == 1.0
    weight, ratios = two_ranks[0]["tiny"]
    for name, ratio in ratios.items():
        assert ratio == pytest.approx(weight, rel=0.01), name


def test_resharding_changes_nothing(two_ranks: list[dict[str, tuple[float, dict[str, Tensor]]]]) -> None:
    for found in two_ranks:
        assert found["reshard"][0] == found["keep"][0]
        assert equal(found["reshard"][1], found["keep"][1])


@pytest.mark.parametrize("axis", ["tensor", "context"])
def test_communication_is_computed_again_alike(
    axis: str, two_ranks: list[dict[str, tuple[float, dict[str, Tensor]]]]
) -> None:
    for found in two_ranks:
        none, selective, full = (found[f"{axis} {way}"] for way in WAYS)
        assert none[0] == selective[0] == full[0]
        assert equal(selective[1], none[1])
        assert equal(full[1], none[1])


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on CPUs")
def test_compiled_blocks_compute_the_same() -> None:
    loss, gradients = step(LayoutOptions(), Running())
    compiled_loss, compiled = step(LayoutOptions(), Running(compile=True))
    assert compiled_loss == pytest.approx(loss, abs=1e-6)
    assert distance(compiled, gradients) < 1e-5
    both_loss, both = step(LayoutOptions(), Running(compile=True, recompute="selective"))
    assert both_loss == pytest.approx(loss, abs=1e-6)
    assert distance(both, gradients) < 1e-5


@pytest.mark.parametrize("axis", ["data", "tensor", "pipeline"])
def test_eight_bits_are_as_far_from_32_on_layouts_as_on_one_process(
    axis: str, two_ranks: list[dict[str, tuple[float, dict[str, Tensor]]]]
) -> None:
    """No closer: the least difference before the rounding moves some numbers to others of the few that there are."""
    pytest.importorskip("torchao")
    exact_loss, exact = step(LayoutOptions(), Running())
    _, alone = step(LayoutOptions(), Running(BF16, fp8=True))
    for found in two_ranks:
        loss, gradients = found[f"float8 {axis}"]
        assert loss == pytest.approx(exact_loss, rel=5e-3)
        far, far_alone = (distance(some, {name: exact[name] for name in gradients}) for some in (gradients, alone))
        assert far == pytest.approx(far_alone, rel=0.5)


def test_a_gpu_without_float8_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchao")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
    with pytest.raises(MachineError, match=r"float8: NVIDIA A100 does not multiply in float8; set pretrain\.precision"):
        to_float8(torch.nn.Linear(16, 16), torch.device("cuda", 0))


def test_eight_bits_learn_nearly_as_well_as_sixteen() -> None:
    pytest.importorskip("torchao")
    curves = []
    for fp8 in (False, True):
        model = make(OPTIONS, LayoutOptions(), Running(BF16, fp8=fp8))
        optimizer = torch.optim.AdamW([parameter for _, parameter in model.named_parameters()], lr=1e-2)
        losses = []
        for _ in range(30):
            sums = model.train_step([rows_of(0)], NextToken())
            model.scale_gradients(1 / sums.weight)
            optimizer.step()
            losses.append(sums.total / sums.weight)
        curves.append(losses)
    plain, eight = curves
    assert plain[0] != eight[0] == pytest.approx(plain[0], rel=0.01)
    assert plain[-1] < plain[0] - 1.0
    assert eight[-1] == pytest.approx(plain[-1], rel=0.1)
