"""Every way to compute attention gives the same; so do queries of some places only."""

from __future__ import annotations

import pytest
import torch

from herdsman.model import tiled
from herdsman.model.attention import BACKENDS, Backend, Dense, Sight, Tiled

HEADS, KV_HEADS, WIDTH, LENGTH = 6, 2, 16, 96


def inputs() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, heads, LENGTH, WIDTH, generator=generator, requires_grad=True)
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    ]


def documents() -> torch.Tensor:
    return torch.stack([torch.arange(LENGTH) // 17, torch.tensor([0] * 50 + [1] * 45 + [2])])


def by_hand(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, numbers: torch.Tensor | None) -> torch.Tensor:
    """Softmax attention written out, query by query."""
    out = torch.zeros(2, HEADS, LENGTH, WIDTH)
    for row in range(2):
        for place in range(LENGTH):
            seen = torch.arange(LENGTH) <= place
            if numbers is not None:
                seen &= numbers[row] == numbers[row, place]
            for head in range(HEADS):
                group = head // (HEADS // KV_HEADS)
                scores = (k[row, group, seen] @ q[row, head, place]) / WIDTH**0.5
                out[row, head, place] = scores.softmax(0) @ v[row, group, seen]
    return out


@pytest.mark.parametrize("packed", [True, False])
def test_dense_attention_is_attention(packed: bool) -> None:
    q, k, v = inputs()
    numbers, places, backend = documents() if packed else None, torch.arange(LENGTH), Dense()
    out = backend.attend(q, k, v, backend.prepare(Sight(places, places, numbers, numbers)))
    with torch.no_grad():
        assert torch.allclose(out, by_hand(q, k, v, numbers), atol=1e-5)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", [name for name in BACKENDS if name not in ("dense", "varlen")])
def test_back_ends_agree(name: str, packed: bool) -> None:
    numbers, places = documents() if packed else None, torch.arange(LENGTH)
    sight = Sight(places, places, numbers, numbers)
    results = []
    for backend in (Dense(), BACKENDS[name]()):
        # torch has no backward pass of FlexAttention on the CPU.
        leaves = [leaf.detach().requires_grad_(name != "flex") for leaf in inputs()]
        out = backend.attend(*leaves, backend.prepare(sight))
        gradients = torch.autograd.grad(out.square().sum(), leaves) if name != "flex" else ()
        results.append((out.detach(), *gradients))
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def results(backend: Backend, sight: Sight, leaves: list[torch.Tensor]) -> list[torch.Tensor]:
    """What attention gives and, for some gradient of it, the gradients of queries, keys and values."""
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    out = backend.attend(*leaves, backend.prepare(sight))
    by_out = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, leaves, by_out)]


@pytest.mark.parametrize("rows_tokens", [1, 1000])
@pytest.mark.parametrize("size", [1, 17, 32, 95])
@pytest.mark.parametrize("packed", [True, False])
def test_tiles_of_any_size_agree(size: int, packed: bool, rows_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles that documents end in or before, the last of them shorter; rows one by one or together."""
    monkeypatch.setattr(tiled, "TILE", size)
    monkeypatch.setattr(tiled, "ROWS_TOKENS", rows_tokens)
    numbers, places = documents() if packed else None, torch.arange(LENGTH)
    sight = Sight(places, places, numbers, numbers)
    for ours, theirs in zip(results(Tiled(), sight, inputs()), results(Dense(), sight, inputs()), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_tiles_leave_out_documents_that_are_over() -> None:
    places, numbers = torch.arange(4 * tiled.TILE), torch.arange(4)[None].repeat_interleave(tiled.TILE, 1)
    (tiles,) = Tiled().prepare(Sight(places, places, numbers, numbers)).groups
    assert [tile.keys for tile in tiles] == [tile.queries for tile in tiles]


def test_half_precision_tiles_are_about_as_exact_as_torchs() -> None:
    places = torch.arange(LENGTH)
    sight = Sight(places, places, documents(), documents())
    half = [leaf.bfloat16() for leaf in inputs()]
    exact = results(Dense(), sight, [leaf.float() for leaf in half])
    for ours, theirs, reference in zip(
        results(Tiled(), sight, half), results(Dense(), sight, half), exact, strict=True
    ):
        assert (ours - reference).norm() < 2 * (theirs - reference).norm()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="flash attention over documents needs a GPU")
def test_varlen_agrees_on_a_gpu() -> None:
    numbers, places = documents().cuda(), torch.arange(LENGTH, device="cuda")
    sight = Sight(places, places, numbers, numbers)
    leaves = [leaf.detach().cuda().bfloat16() for leaf in inputs()]
    dense, varlen = (b.attend(*leaves, b.prepare(sight)) for b in (Dense(), BACKENDS["varlen"]()))
    assert torch.allclose(dense.float(), varlen.float(), atol=2e-2)


@pytest.mark.parametrize("backend", [Dense(), BACKENDS["tiled"](), BACKENDS["flex"]()])
def test_some_queries_see_what_they_see_among_all(backend: Backend) -> None:
    """As on a rank of context parallelism: queries of some places, keys of all places in another order."""
    q, k, v = (leaf.detach() for leaf in inputs())
    numbers, places = documents(), torch.arange(LENGTH)
    whole = Dense().attend(q, k, v, Sight(places, places, numbers, numbers).mask())
    mine = torch.cat((torch.arange(0, 24), torch.arange(72, 96)))
    order = torch.cat((mine, torch.arange(24, 72)))
    sight = Sight(mine, order, numbers[:, mine], numbers[:, order])
    out = backend.attend(q[:, :, mine], k[:, :, order], v[:, :, order], backend.prepare(sight))
    assert torch.allclose(out, whole[:, :, mine], atol=1e-5)
