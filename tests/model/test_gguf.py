"""GGUF files against transformers: its models written as llama.cpp's converter does, and its own GGUF loader."""

from __future__ import annotations

import io
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from herdsman.errors import InputError
from herdsman.model.conversion import collect
from herdsman.model.gguf import NAMES, GgufFile
from herdsman.model.gguf_vocabulary import stop_ids, tokenizer_json
from herdsman.model.llama import Llama
from herdsman.model.options import RopeScaling
from herdsman.model.rope import rope_frequencies
from herdsman.model.store import load_model, save_weights
from herdsman.tokens.foreign import ForeignTokenizer, write_tokenizer
from tests.model.peers import furthest, llama31, peer, stored_as, write_gguf
from tests.tokens.vocabularies import TEXTS, add_to_gguf, foreign_json

transformers = pytest.importorskip("transformers")
LARGE = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 4}


def brought_home(path: Path) -> Llama:
    file = GgufFile(path)
    weights = collect(file.tensors(), NAMES, file.options, file.vocab_size, path)
    save_weights(sorted(weights.items()), file.options, file.vocab_size, path.parent / "ours")
    return load_model(path.parent / "ours")


@pytest.mark.parametrize(
    "changes",
    [{}, {"tie_word_embeddings": True}, {"num_key_value_heads": 6}, {"head_dim": 12}, {"intermediate_size": 101}],
    ids=["untied", "tied", "no groups", "own head width", "odd width"],
)
def test_logits_equal_those_of_the_model_it_was_made_from(tmp_path: Path, changes: dict[str, object]) -> None:
    """q and k come back into the order of transformers: in the wrong order the logits are far away."""
    theirs = peer(**changes)
    assert furthest(brought_home(write_gguf(tmp_path / "model.gguf", theirs)), theirs) < 1e-5


def scrambled(kind: str) -> tuple[np.ndarray, gguf.GGMLQuantizationType]:
    """Stores matrices as random blocks of a type that the gguf package cannot write, scales kept small."""
    type = gguf.GGMLQuantizationType[kind]
    scales = {"Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}[kind]

    def stored(matrix: np.ndarray) -> tuple[np.ndarray, gguf.GGMLQuantizationType]:
        size, width = gguf.GGML_QUANT_SIZES[type]
        blocks = np.random.default_rng(matrix.size).integers(0, 256, (matrix.size // size, width), np.uint8)
        for place in scales:
            small = np.full((len(blocks), 1), 1e-4, np.float16)
            blocks[:, place : place + 2] = small.view(np.uint8)
        return blocks.reshape(matrix.shape[0], -1), type

    return stored


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "K"])
def test_every_type_of_block_is_read_as_transformers_reads_it(tmp_path: Path, kind: str) -> None:
    """transformers dequantises with code of its own."""
    pytest.importorskip("accelerate")
    for name in ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K") if kind == "K" else (kind,):
        stored = scrambled(name) if kind == "K" else stored_as(name)
        path = write_gguf(tmp_path / "model.gguf", peer(**LARGE), stored)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path, gguf_file="model.gguf", dtype=torch.float32
        ).eval()
        ours = brought_home(path)
        assert theirs.model.layers[0].mlp.up_proj.weight.std() > 1e-3
        embedding = theirs.model.embed_tokens.weight
        assert torch.allclose(ours.embedding.weight, embedding, atol=1e-7)
        assert furthest(ours, theirs) < 1e-4
        assert name in GgufFile(path).types


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_scaling_of_llama_31_is_told_from_its_factors(tmp_path: Path, factor: float) -> None:
    theirs = peer(rope_parameters=llama31(factor, 8192), max_position_embeddings=131_072, head_dim=64)
    options = GgufFile(write_gguf(tmp_path / "plain.gguf", theirs)).options
    scaled = options.model_copy(update={"rope_scaling": RopeScaling(factor=factor)})
    factors = (rope_frequencies(options) / rope_frequencies(scaled)).float().numpy()
    path = write_gguf(tmp_path / "model.gguf", theirs, tensors={"rope_freqs.weight": factors})
    ours = brought_home(path)
    assert ours.options.rope_scaling == RopeScaling(factor=factor)
    ids, far = torch.arange(60)[None], 100 * torch.arange(60)[None]
    with torch.no_grad():
        expected = theirs(ids, position_ids=far).logits
        assert (ours.logits(ours(ids, positions=far)) - expected).abs().max() < 1e-4
        plain = brought_home(tmp_path / "plain.gguf")
        assert (plain.logits(plain(ids, positions=far)) - expected).abs().max() > 1e-2
    wrong = {"rope_freqs.weight": np.linspace(1, factor, 32, dtype=np.float32)}
    with pytest.raises(InputError, match=r"rope_freqs\.weight is not Llama 3\.1's scaling"):
        GgufFile(write_gguf(tmp_path / "wrong.gguf", theirs, tensors=wrong))
    none = {"rope_freqs.weight": np.ones(32, np.float32)}
    assert GgufFile(write_gguf(tmp_path / "none.gguf", theirs, tensors=none)).options.rope_scaling is None


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({"general__architecture": "qwen2"}, "general.architecture is 'qwen2'"),
        ({"split__count": 3}, "split.count is 3; join the parts"),
        ({"llama__expert_count": 8}, "llama.expert_count is 8"),
        ({"llama__attention__sliding_window": 4096}, "llama.attention.sliding_window is 4096"),
        ({"llama__rope__scaling__type": "yarn"}, "llama.rope.scaling.type is 'yarn'"),
        ({"llama__rope__dimension_count": 4}, "llama.rope.dimension_count is 4 and the width of a head 8"),
        ({"llama__attention__head_count": 5}, "heads"),
        ({"llama__block_count": "two"}, "llama.block_count is 'two', not a whole number"),
        ({"llama__block_count": 3}, "blk.2.attn_k.weight and 8 more tensors are missing"),
        ({"llama__block_count": 1}, "has no tensor blk.1."),
        ({"llama__feed_forward_length": 64}, "is [80, 48] and the dimensions ask for [64, 48]"),
    ],
)
def test_what_is_no_llama_is_refused_by_name(tmp_path: Path, metadata: dict[str, object], sentence: str) -> None:
    path = write_gguf(tmp_path / "model.gguf", peer(), **metadata)
    with pytest.raises(InputError) as caught:
        brought_home(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert sentence in str(caught.value)


def test_biases_are_refused_by_name(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", peer(), tensors={"blk.0.attn_q.bias": np.zeros(48, np.float32)})
    with pytest.raises(InputError, match=r"has no tensor blk\.0\.attn_q\.bias"):
        brought_home(path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = with_vocabulary(tmp_path).path
    whole = path.read_bytes()
    for cut in [*range(0, len(whole) - 1, len(whole) // 40), 3, 4, 20, 100, 500, 1000, 1500, 2000, len(whole) - 1]:
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError):
            brought_home(path)
    kinds = np.uint32(5).tobytes() + np.uint64(300).tobytes()  # the array of token types begins so, and claims to go on
    before, after = whole.split(kinds)
    path.write_bytes(before + np.uint32(5).tobytes() + np.uint64(2**60).tobytes() + after[:2000])
    with pytest.raises(InputError, match="it ends too early"):
        GgufFile(path)
    path.write_bytes(whole.replace(b"<|im_end|>", b"<|im\xffend|>", 1))
    with pytest.raises(InputError, match=r"tokenizer\.ggml\.tokens is damaged"):
        tokenizer_json(GgufFile(path))
    path.write_bytes(b"PK\3\4" + whole[4:])
    with pytest.raises(InputError, match="not a readable GGUF file"):
        GgufFile(path)
    with pytest.raises(InputError, match="not a readable GGUF file"):
        GgufFile(tmp_path / "none.gguf")


def with_vocabulary(tmp_path: Path, pre: str = "smollm", **ids: int) -> GgufFile:
    text = foreign_json()
    path = write_gguf(tmp_path / "model.gguf", peer(), vocabulary=lambda writer: add_to_gguf(writer, text, pre, **ids))
    return GgufFile(path)


def test_end_tokens_are_those_the_file_names(tmp_path: Path) -> None:
    assert stop_ids(with_vocabulary(tmp_path, eos_token_id=2, eot_token_id=0)) == {0, 2}
    assert stop_ids(with_vocabulary(tmp_path)) == set()


def test_sentencepiece_gives_the_ids_of_sentencepiece_itself(tmp_path: Path) -> None:
    """Llama 2's kind of vocabulary: the file has scores and no merges."""
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in TEXTS * 20 for line in text.splitlines() if line),
        model_writer=model, model_type="bpe", vocab_size=400, hard_vocab_limit=False, byte_fallback=True,
        split_digits=True, normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
        allow_whitespace_only_pieces=True,
    )  # fmt: skip
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    size = theirs.vocab_size()
    kinds = (theirs.is_unknown, gguf.TokenType.UNKNOWN), (theirs.is_control, gguf.TokenType.CONTROL)
    kinds += ((theirs.is_byte, gguf.TokenType.BYTE), (lambda id: True, gguf.TokenType.NORMAL))

    def vocabulary(writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model("llama")
        writer.add_token_list([theirs.id_to_piece(id) for id in range(size)])
        writer.add_token_scores([theirs.get_score(id) for id in range(size)])
        writer.add_token_types([next(kind for is_kind, kind in kinds if is_kind(id)) for id in range(size)])
        writer.add_bos_token_id(theirs.bos_id())
        writer.add_eos_token_id(theirs.eos_id())

    path = write_gguf(tmp_path / "model.gguf", peer(vocab_size=size), vocabulary=vocabulary)
    file = GgufFile(path)
    ours = write_tokenizer(tokenizer_json(file), stop_ids(file), None, None, tmp_path)
    assert isinstance(ours, ForeignTokenizer)
    assert (ours.beginning, ours.stop_ids) == ([theirs.bos_id()], {theirs.eos_id()})
    for text in [*TEXTS, "  two  ", "ünknown ☃ 12345", "a </s> b<s>", "", "\n\n a\t"]:
        assert ours.encode(text) == theirs.encode(text)
        assert ours.decode_bytes(ours.encode(text)) == (f" {text}" if text else "").encode()


def test_vocabularies_that_cannot_be_split_right_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.ggml\.pre is 'tekken'"):
        tokenizer_json(with_vocabulary(tmp_path, "tekken"))
    with pytest.raises(InputError, match="the vocabulary is not whole"):
        tokenizer_json(with_vocabulary(tmp_path, add_bos_token=1, bos_token_id=300))
    with pytest.raises(InputError, match=r"tokenizer\.ggml\.model is None"):
        tokenizer_json(GgufFile(write_gguf(tmp_path / "bare.gguf", peer())))
    text = foreign_json()
    path = write_gguf(
        tmp_path / "short.gguf", peer(vocab_size=299), vocabulary=lambda w: add_to_gguf(w, text, "smollm")
    )
    with pytest.raises(InputError, match="the vocabulary is not whole"):
        tokenizer_json(GgufFile(path))
    path = write_gguf(
        tmp_path / "merges.gguf", peer(),
        vocabulary=lambda w: add_to_gguf(w, text.replace('"Ġ",', '"ĠQQ",', 1), "smollm"),
    )  # fmt: skip
    with pytest.raises(InputError, match="the merges do not fit the tokens"):
        tokenizer_json(GgufFile(path))
