"""The decoder against Hugging Face's, against itself, and against the published numbers."""

from __future__ import annotations

import math
import shutil

import pytest
import torch

from herdsman.errors import InputError
from herdsman.model.attention import Backend, Dense, Tiled
from herdsman.model.count import count_parameters, training_flops
from herdsman.model.llama import Llama, Part
from herdsman.model.options import ModelOptions, RopeScaling
from herdsman.model.rope import rope_frequencies
from herdsman.model.store import load_model, save_model

PUBLISHED = {  # layers, dim, heads, kv_heads, multiplier, multiple_of, tied -> ffn, exact parameters
    "8b": ((32, 4096, 32, 8, 1.3, 1024, False), 14336, 8_030_261_248),
    "70b": ((80, 8192, 64, 8, 1.3, 4096, False), 28672, 70_553_706_496),
    "405b": ((126, 16384, 128, 8, 1.2, 4096, False), 53248, 405_853_388_800),
    "1b": ((16, 2048, 32, 8, 1.5, 256, True), 8192, 1_235_814_400),
    "3b": ((28, 3072, 24, 8, 1.0, 256, True), 8192, 3_212_749_824),
}


def options_of(name: str) -> ModelOptions:
    layers, dim, heads, kv_heads, multiplier, multiple_of, tied = PUBLISHED[name][0]
    return ModelOptions(
        layers=layers,
        dim=dim,
        heads=heads,
        kv_heads=kv_heads,
        ffn_multiplier=multiplier,
        ffn_multiple_of=multiple_of,
        tied_embeddings=tied,
    )


def small(**changes: object) -> ModelOptions:
    settings = {"layers": 3, "dim": 48, "heads": 6, "kv_heads": 2, "ffn_multiple_of": 16, "context_length": 64}
    return ModelOptions(**settings | changes)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_dimensions(name: str) -> None:
    _, ffn, parameters = PUBLISHED[name]
    options = options_of(name)
    assert options.ffn_dim == ffn
    assert count_parameters(options, 128_256).total == parameters


@pytest.mark.parametrize("tied", [True, False])
def test_count_is_what_the_model_holds(tied: bool) -> None:
    options = small(tied_embeddings=tied)
    model = Llama(options, 200)
    assert count_parameters(options, 200).total == sum(p.numel() for p in model.parameters())


def test_flops_of_a_published_run() -> None:
    """6 * 405.85e9 * 15.6e12 = 3.799e25 (paper: 3.8e25); at 8k, attention adds 12 * L * d * s a token."""
    options = options_of("405b")
    assert training_flops(options, 128_256, 15_600_000_000_000) == pytest.approx(3.799e25, rel=1e-3)
    per_token = training_flops(options, 128_256, 1, 8192)
    matrices = 405_853_388_800 - 128_256 * 16384 - (2 * 126 + 1) * 16384
    assert per_token == 6 * matrices + 12 * 126 * 16384 * 8192


def test_rope_scaling_oracle() -> None:
    """llama3-recipe: head width 128, factor 8: 29 frequencies kept, 6 blended (29 to 34), 29 scaled."""
    plain = rope_frequencies(ModelOptions(layers=1, dim=128, heads=1, kv_heads=1))
    scaled = rope_frequencies(ModelOptions(layers=1, dim=128, heads=1, kv_heads=1, rope_scaling=RopeScaling()))
    assert torch.equal(scaled[:29], plain[:29])
    assert torch.allclose(scaled[35:], plain[35:] / 8, rtol=1e-12)
    before = [2.616099e-3, 2.131120e-3, 1.736047e-3, 1.414214e-3, 1.152043e-3, 9.384739e-4]
    after = [2.166571e-3, 1.371894e-3, 8.567514e-4, 5.248462e-4, 3.126938e-4, 1.785078e-4]
    assert plain[29:35].tolist() == pytest.approx(before, rel=1e-6)
    assert scaled[29:35].tolist() == pytest.approx(after, rel=1e-6)
    assert plain[-1].item() == pytest.approx(2.455141e-6, rel=1e-6)
    assert scaled[-1].item() == pytest.approx(3.068926e-7, rel=1e-6)


def test_rope_scaling_of_1b() -> None:
    """llama3-recipe: head width 64, factor 32: 15 kept, 3 blended, 14 scaled."""
    options = ModelOptions(layers=1, dim=64, heads=1, kv_heads=1)
    plain = rope_frequencies(options)
    scaled = rope_frequencies(options.model_copy(update={"rope_scaling": RopeScaling(factor=32)}))
    kept, whole = int((scaled == plain).sum()), int(torch.isclose(scaled * 32, plain, rtol=1e-12).sum())
    assert (kept, len(plain) - kept - whole, whole) == (15, 3, 14)


@pytest.mark.parametrize("scaling", [None, RopeScaling(factor=8, original_context=16)])
@pytest.mark.parametrize("tied", [True, False])
def test_logits_equal_hugging_face(scaling: RopeScaling | None, tied: bool) -> None:
    transformers = pytest.importorskip("transformers")
    options = small(rope_scaling=scaling, tied_embeddings=tied)
    model = Llama(options, 300).initialise(3)
    rope = {"rope_theta": options.rope_theta, "rope_type": "default"}
    if scaling:
        rope |= {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_context,
        }
    config = transformers.LlamaConfig(
        vocab_size=300,
        hidden_size=48,
        intermediate_size=options.ffn_dim,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        rope_parameters=rope,
        tie_word_embeddings=tied,
    )
    peer = transformers.LlamaForCausalLM(config).eval()
    names = {
        "embedding": "model.embed_tokens",
        "blocks": "model.layers",
        "attention_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "attention": "self_attn",
        "ffn": "mlp",
        "norm": "model.norm",
        "output": "lm_head",
    }
    weights = {".".join(names.get(part, part) for part in key.split(".")): v for key, v in model.state_dict().items()}
    missing, unexpected = peer.load_state_dict(weights, strict=False)
    assert not unexpected
    assert set(missing) <= ({"lm_head.weight"} if tied else set())
    tokens = torch.randint(0, 300, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (model.logits(model(tokens)) - peer(tokens).logits).abs().max() < 1e-5


def test_document_mask_separates_documents() -> None:
    """Packed documents give the logits each gives alone, its positions starting where it stands in the row."""
    model = Llama(small(), 100).initialise(1).eval()
    tokens = torch.randint(0, 100, (1, 20), generator=torch.Generator().manual_seed(0))
    documents = torch.tensor([[0] * 7 + [1] * 9 + [2] * 4])
    with torch.no_grad():
        packed = model.logits(model(tokens, documents=documents))
        for start, end in ((0, 7), (7, 16), (16, 20)):
            alone = model.logits(model(tokens[:, start:end], positions=torch.arange(start, end)[None]))
            assert torch.allclose(packed[:, start:end], alone, atol=1e-5)
        leaky = model.logits(model(tokens))
    assert not torch.allclose(packed[:, 7:], leaky[:, 7:], atol=1e-3)


def test_parts_of_the_model_make_the_whole() -> None:
    """Consecutive parts, each drawn on its own, have the weights of the whole and pass hidden states on."""
    options = small(tied_embeddings=True)
    whole = Llama(options, 100).initialise(7)
    cuts = [Part(range(0), True, False), Part(range(2), False, False), Part(range(2, 3), False, True)]
    parts = [Llama(options, 100, cut).initialise(7) for cut in cuts]
    tokens = torch.randint(0, 100, (2, 30), generator=torch.Generator().manual_seed(0))
    documents = torch.arange(30).expand(2, 30) // 11
    with torch.no_grad():
        x = tokens
        for part in parts:
            x = part(x, torch.arange(30)[None], documents)
        assert torch.equal(x, whole(tokens, documents=documents))
        assert torch.equal(parts[-1].logits(x), whole.logits(x))
    names = {name for part in parts for name in part.state_dict()}
    assert names == set(whole.state_dict())


def test_initial_loss_is_that_of_a_uniform_guess() -> None:
    model = Llama(small(), 500).initialise(0)
    tokens = torch.randint(0, 500, (4, 64), generator=torch.Generator().manual_seed(0))
    logits = model.logits(model(tokens))
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(500), abs=0.05)


def test_store_round_trip_is_exact_and_deterministic(tmp_path) -> None:
    model = Llama(small(tied_embeddings=True, rope_scaling=RopeScaling()), 100).initialise(5)
    save_model(model, tmp_path / "a")
    again = load_model(tmp_path / "a")
    save_model(again, tmp_path / "b")
    assert again.options == model.options
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    (tmp_path / "a/model.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match="no readable model"):
        load_model(tmp_path / "a")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
@pytest.mark.parametrize("backend", [Dense(), Tiled()])
def test_compiled_blocks_give_the_same(backend: Backend) -> None:
    tokens = torch.randint(0, 90, (2, 48), generator=torch.Generator().manual_seed(0))
    results = []
    for compiled in (False, True):
        torch.compiler.reset()
        model = Llama(small(initial_std=0.1), 90).initialise(1)
        model.backend = backend
        for block in model.blocks.values():
            if compiled:
                block.compile()
        loss = model.logits(model(tokens, documents=tokens.cummax(1).values // 20)).logsumexp(-1).sum()
        results.append((loss, *torch.autograd.grad(loss, list(model.parameters()))))
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)
