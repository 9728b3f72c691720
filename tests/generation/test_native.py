"""The native kernel: against the same arithmetic in torch, against the float32 model, and against itself."""

from __future__ import annotations

import ctypes
import shutil

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad, silu

from herdsman.errors import InputError
from herdsman.generation.cache import PagedCache, blocks_for
from herdsman.generation.native import build, packing, runner
from herdsman.generation.native.packing import GROUP, Form, quantize_groups
from herdsman.generation.native.runner import NativeRunner
from herdsman.generation.runner import Step
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions
from herdsman.model.rope import rotate

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
VOCAB = 301
FORMS: tuple[Form, ...] = ("bfloat16", "int8")
LEVELS = {"plain C": 0, "vectors": 1, "all there is": 2}
SHAPES = {
    "heads of 32, grouped": {"dim": 96, "heads": 6, "kv_heads": 2, "head_dim": 32, "ffn_width": 200},
    "heads of 64, tied": {
        "dim": 128, "heads": 4, "kv_heads": 1, "head_dim": 64, "ffn_width": 72, "tied_embeddings": True,
    },
    "heads of 128": {"dim": 80, "heads": 2, "kv_heads": 2, "head_dim": 128, "ffn_width": 64},
    "tiny and odd": {"dim": 36, "heads": 3, "kv_heads": 3, "head_dim": 12, "ffn_width": 50},
    "nine heads for three": {"dim": 64, "heads": 9, "kv_heads": 3, "head_dim": 64, "ffn_width": 130},
}  # fmt: skip


@pytest.fixture(scope="module", params=LEVELS)
def level(request: pytest.FixtureRequest) -> int:
    return LEVELS[request.param]


@pytest.fixture(autouse=True)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every runner of a test that names a level is of that level."""
    if "level" in request.fixturenames:
        flags = (*build.FLAGS, f"-DHERDSMAN_LEVEL={request.getfixturevalue('level')}")
        library = ctypes.CDLL(str(build.built(build.find_compiler(), flags)))
        monkeypatch.setattr(runner, "attempt", lambda: (library, ""))


def model_of(shape: str, context_length: int = 512, layers: int = 2) -> Llama:
    """Norms are random too, and weights large enough for attention to tell keys apart."""
    options = ModelOptions(layers=layers, context_length=context_length, initial_std=0.12, **SHAPES[shape])
    model = Llama(options, VOCAB).initialise(3).eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5, generator=generator)
    return model


def tokens(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, VOCAB, (count,), generator=torch.Generator().manual_seed(seed))


class Running:
    """A runner and its cache, one sequence after another or several at once."""

    def __init__(self, model: Llama, form: Form, blocks: int = 96):
        self.runner = NativeRunner(model, form)
        self.cache = PagedCache(model.options, blocks, self.runner.dtype)

    def table(self, length: int) -> list[int]:
        return self.cache.allocate(blocks_for(length))

    def step(self, parts: list[tuple[Tensor, int, list[int]]]) -> list[Tensor]:
        """Logits of all tokens of each part: new tokens, how many came before, blocks."""
        starts = [0]
        for ids, _, _ in parts:
            starts.append(starts[-1] + len(ids))
        step = Step(
            torch.cat([ids for ids, _, _ in parts]),
            starts,
            [length for _, length, _ in parts],
            [table for _, _, table in parts],
            torch.arange(starts[-1]),
        )
        return list(self.runner.forward(step, self.cache).split([len(ids) for ids, _, _ in parts]))

    def whole(self, ids: Tensor) -> Tensor:
        return self.step([(ids, 0, self.table(len(ids)))])[0]


@torch.no_grad()
def same_arithmetic(model: Llama, ids: Tensor, form: Form) -> Tensor:
    """Logits [tokens, vocab] by plain torch operations on whole sequences, rounded where the kernel rounds."""
    options = model.options

    def product(x: Tensor, weight: Tensor) -> Tensor:
        if form == "bfloat16":
            return x.bfloat16().double() @ weight.bfloat16().double().T
        missing = -x.shape[-1] % GROUP
        (x_quants, x_scales), (quants, scales) = (quantize_groups(pad(each, (0, missing))) for each in (x, weight))
        dots = torch.einsum(
            "tgi,ogi->tog",
            x_quants.double().unflatten(-1, (-1, GROUP)),
            quants.double().unflatten(-1, (-1, GROUP)),
        )
        return (dots * x_scales[:, None].double() * scales.double()).sum(-1)

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return (x * (x.square().mean(-1, keepdim=True) + options.norm_eps).rsqrt() * weight).float()

    embedding = model.embedding.weight  # type: ignore[union-attr]
    if form == "bfloat16":
        x = embedding.bfloat16()[ids].double()
    else:
        quants, scales = quantize_groups(pad(embedding, (0, -options.dim % GROUP)))
        x = (quants.unflatten(-1, (-1, GROUP)) * scales[..., None]).flatten(-2)[ids, : options.dim].double()
    cos, sin = model.cos[: len(ids)], model.sin[: len(ids)]
    hidden = torch.ones(len(ids), len(ids), dtype=torch.bool).triu(1)
    for block in model.blocks.values():
        normed = norm(x, block.attention_norm.weight)
        projections = (block.attention.q_proj, block.attention.k_proj, block.attention.v_proj)
        q, k, v = (
            product(normed, each.weight).float().unflatten(-1, (-1, options.head_width)).transpose(0, 1)
            for each in projections
        )
        q, k, v = (each.bfloat16().double() for each in (rotate(q, cos, sin), rotate(k, cos, sin), v))
        k, v = (each.repeat_interleave(options.heads // options.kv_heads, 0) for each in (k, v))
        scores = (q @ k.mT / options.head_width**0.5).masked_fill(hidden, -torch.inf)
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        attended = weights.bfloat16().double() @ v / weights.sum(-1, keepdim=True)
        x = x + product(attended.transpose(0, 1).flatten(1).float(), block.attention.o_proj.weight)
        normed = norm(x, block.ffn_norm.weight)
        gate, up = product(normed, block.ffn.gate_proj.weight), product(normed, block.ffn.up_proj.weight)
        x = x + product((silu(gate) * up).float(), block.ffn.down_proj.weight)
    return product(norm(x, model.norm.weight), model.output_weight).float()  # type: ignore[union-attr]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_it_computes_what_it_says(level: int, shape: str, form: Form) -> None:
    """Nearly all tokens to float32's precision. A number that falls on two sides of a rounding, as some do because sums
    are taken in another order, moves its own token's logits by as much as rounding does, and through the keys and
    values those after it in the next layer: so there is one layer here."""
    model, ids = model_of(shape, layers=1), tokens(45)
    ours, theirs = Running(model, form).whole(ids), same_arithmetic(model, ids, form)
    errors = (ours - theirs).square().mean(-1).sqrt() / theirs.square().mean().sqrt()
    assert errors.median() < 1e-5
    assert (errors > 1e-4).float().mean() < 0.2
    assert errors.max() < 0.03


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_it_is_close_to_the_model_in_float32(shape: str, form: Form) -> None:
    model, ids = model_of(shape), tokens(300)
    ours, exact = Running(model, form).whole(ids), model.logits(model(ids[None]))[0]
    assert torch.cosine_similarity(ours, exact).mean() > {"bfloat16": 0.9998, "int8": 0.997}[form]
    assert (ours.argmax(-1) == exact.argmax(-1)).float().mean() > {"bfloat16": 0.95, "int8": 0.88}[form]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_prompt_gets_the_same_bits_in_pieces(level: int, shape: str, form: Form) -> None:
    """Whole, in stretches of any length, and token by token, over the border of a part of a step."""
    running, ids = Running(model_of(shape), form), tokens(290)
    whole = running.whole(ids)
    for stretches in ([1] * 20 + [70, 3, 17, 180], [256, 34], [289, 1]):
        table, done, pieces = running.table(len(ids)), 0, []
        for stretch in stretches:
            pieces += running.step([(ids[done : done + stretch], done, table)])
            done += stretch
        assert torch.equal(torch.cat(pieces), whole)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", ["heads of 32, grouped", "tiny and odd", "nine heads for three"])
def test_a_sequence_gets_the_same_bits_in_any_company(level: int, shape: str, form: Form) -> None:
    """Samples of one prompt that share its blocks, a second family that shares fewer, a prompt read in between."""
    running, prompt = Running(model_of(shape), form, 160), tokens(100)
    others, late = tokens(100, seed=1), tokens(40, seed=2)
    rows = [prompt[:100], prompt[:100], prompt[:100], torch.cat([prompt[:48], others[48:]]), others, prompt[:33]]
    alone = [running.whole(torch.cat([row, tokens(3, seed=9 + n)])) for n, row in enumerate(rows)]
    shared = running.table(96)
    running.step([(prompt[:96], 0, shared)])
    tables = []
    for row in rows:
        known = 0
        while known < len(row) // 16 and torch.equal(row[: 16 * known + 16], prompt[: 16 * known + 16]):
            known += 1
        table = shared[:known] + running.table(len(row) + 3 - 16 * known)
        running.step([(row[16 * known :], 16 * known, table)]) if len(row) > 16 * known else None
        tables.append(table)
    late_table, late_alone = running.table(len(late)), running.whole(late)
    for extra in range(3):
        parts = [(tokens(3, seed=9 + n)[extra, None], len(row) + extra, tables[n]) for n, row in enumerate(rows)]
        if extra == 1:
            parts.insert(2, (late, 0, late_table))
        found = running.step(parts)
        if extra == 1:
            assert torch.equal(found.pop(2), late_alone)
        for logits, expected, row in zip(found, alone, rows, strict=True):
            assert torch.equal(logits[0], expected[len(row) + extra])


@pytest.mark.parametrize("form", FORMS)
def test_threads_change_nothing(form: Form) -> None:
    running, ids = Running(model_of("heads of 32, grouped"), form), tokens(70)
    one = running.whole(ids)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(running.whole(ids), one)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("form", FORMS)
def test_its_memory_grows_with_the_steps(form: Form) -> None:
    model = model_of("nine heads for three")
    growing = Running(model, form)
    for count in (1, 5, 60, 64, 65, 130, 7):
        ids = tokens(count)
        assert torch.equal(growing.whole(ids), Running(model, form).whole(ids))


@pytest.mark.parametrize("form", FORMS)
def test_only_what_is_wanted_is_given(form: Form) -> None:
    running, ids = Running(model_of("tiny and odd"), form), tokens(300)
    whole = running.whole(ids)
    wanted = torch.tensor([299, 3, 255, 256])
    step = Step(ids, [0, 300], [0], [running.table(300)], wanted)
    assert torch.equal(running.runner.forward(step, running.cache), whole[wanted])


def test_a_model_that_scores_gives_one_number() -> None:
    options = ModelOptions(layers=1, context_length=64, **SHAPES["tiny and odd"])
    model = Llama(options, VOCAB, scores=True).initialise(0).eval()
    ids = tokens(20)
    ours = Running(model, "bfloat16").whole(ids)
    assert ours.shape == (20, 1)
    with torch.no_grad():
        assert torch.allclose(ours, model.logits(model(ids[None]))[0], atol=0.02)


def test_what_the_model_does_not_have_is_refused() -> None:
    running = Running(model_of("tiny and odd", context_length=32), "int8")
    with pytest.raises(InputError):
        running.whole(torch.tensor([VOCAB]))
    with pytest.raises(InputError):
        running.whole(torch.tensor([-1]))
    with pytest.raises(InputError):
        running.whole(tokens(33))
    running.whole(tokens(32))


@pytest.mark.parametrize("form", FORMS)
def test_packed_weights_take_the_memory_that_is_reckoned(form: Form) -> None:
    for outputs, inputs in ((16, 64), (17, 65), (301, 36)):
        weight = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(0))
        assert packing.pack(weight, form).numel() == packing.packed_bytes(outputs, inputs, form)


def test_a_group_of_zeros_and_the_largest_numbers_survive() -> None:
    weight = torch.zeros(2, GROUP)
    weight[1, 0], weight[1, 1] = -1e30, 1e-30
    quants, scales = quantize_groups(weight)
    assert quants[0].eq(0).all()
    assert (quants[1, :2] * scales[1]).tolist() == pytest.approx([-1e30, 0])
