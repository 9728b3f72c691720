"""The engine against recomputation without a cache, against `transformers`, and against itself in other batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from herdsman.errors import InputError
from herdsman.generation.choosing import draw
from herdsman.generation.engine import Completion, Piece
from herdsman.generation.local import LocalEngine
from herdsman.generation.sampling import Sampling, draws
from herdsman.model.llama import Llama
from herdsman.model.store import save_model
from herdsman.release.huggingface import export
from herdsman.tokens.vocabulary import MODEL_FILE, write_huggingface, write_ranks
from tests.generation.models import BYTES, MERGES, parrot, random_model, small_tokenizer

TOKENIZER = small_tokenizer()
LENGTHS = (1, 3, 3, 9, 17, 30, 2, 9)
NO_STOP: frozenset[int] = frozenset()


def prompts(seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(0, TOKENIZER.vocab_size, (length,), generator=generator).tolist() for length in LENGTHS]
    return [*rows, rows[3], rows[0], rows[3]]


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    return LocalEngine(random_model(), TOKENIZER)


def recomputed(engine: LocalEngine, prompt: list[int], sampling: Sampling, row: int) -> list[int]:
    """The same sample without cache, batch or padding: the whole sequence is computed for every token."""
    ids = list(prompt)
    numbers = torch.from_numpy(draws(sampling.seed, row).random(sampling.max_new_tokens))
    stops = TOKENIZER.stop_ids if sampling.stop_ids is None else sampling.stop_ids
    for step in range(min(sampling.max_new_tokens, engine.context_length - len(prompt))):
        with torch.no_grad():
            logits = engine.model.logits(engine.model(torch.tensor([ids])))[:, -1]
        greedy = sampling.temperature == 0
        token = int(logits.argmax() if greedy else draw(logits, [sampling], numbers[step : step + 1]))
        if token in stops:
            break
        ids.append(token)
    return ids[len(prompt) :]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(20, temperature=0, stop_ids=NO_STOP),
        Sampling(20, temperature=1.0, top_p=1.0, seed=3, stop_ids=frozenset(range(0, 519, 9))),
        Sampling(20, temperature=0.7, top_p=0.8, seed=4, stop_ids=frozenset(range(0, 519, 11))),
    ],
    ids=["greedy", "all", "nucleus"],
)
def test_batched_equals_one_by_one_equals_recomputed(engine: LocalEngine, sampling: Sampling) -> None:
    rows = prompts()
    batched = engine.generate(rows, sampling)
    for row, prompt in enumerate(rows):
        assert engine.generate([prompt], sampling, rows=[row]) == [batched[row]]
        assert batched[row].ids == recomputed(engine, prompt, sampling, row)
    if sampling.temperature:
        assert len({len(completion.ids) for completion in batched}) > 2, "rows end at different steps"


@pytest.mark.parametrize("rope_scaling", [None, {"factor": 8.0, "original_context": 16}])
@pytest.mark.parametrize("tied", [True, False])
def test_greedy_equals_transformers(tmp_path: Path, tied: bool, rope_scaling: dict | None) -> None:
    model = random_model(tied_embeddings=tied, rope_scaling=rope_scaling)
    peer = exported(model, tmp_path)
    ours = LocalEngine(model, TOKENIZER).generate(prompts(), Sampling(24, temperature=0))
    for prompt, completion in zip(prompts(), ours, strict=True):
        ids = torch.tensor([prompt])
        written = peer.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        theirs = written[0, len(prompt) :].tolist()
        assert theirs[: len(completion.ids)] == completion.ids
        if completion.stopped:
            assert theirs[len(completion.ids)] in TOKENIZER.stop_ids
        else:
            assert len(completion.ids) == 24


def test_seeds_decide_and_batches_do_not(engine: LocalEngine) -> None:
    sampling = Sampling(12, temperature=1.0, top_p=0.95, seed=7, stop_ids=NO_STOP)
    rows = prompts()
    first = engine.generate(rows, sampling)
    assert engine.generate(rows, sampling) == first
    assert engine.generate(rows, Sampling(12, 1.0, 0.95, seed=8, stop_ids=NO_STOP)) != first
    tight = LocalEngine(engine.model, TOKENIZER, cache_bytes=4 * 4096)
    assert tight.generate(rows, sampling) == first, "in memory for one whole context"
    order = list(reversed(range(len(rows))))
    assert engine.generate([rows[row] for row in order], sampling, rows=order) == [first[row] for row in order]
    assert first[3] != first[8], "equal prompts draw from streams of their own"
    assert engine.generate([rows[3]] * 2, sampling, rows=[5, 5])[0] == engine.generate([rows[3]], sampling, rows=[5])[0]


def test_stop_ids_end_a_completion_and_are_left_out() -> None:
    model, tokenizer = parrot(b"abc")
    engine = LocalEngine(model, tokenizer)
    line_end = [tokenizer.bos, ord("\n")]
    assert engine.generate([line_end], Sampling(9)) == [Completion([97, 98, 99], "abc", True, "stop")]
    assert engine.generate([line_end], Sampling(3)) == [Completion([97, 98, 99], "abc", False, "length")]
    assert engine.generate([line_end], Sampling(9, stop_ids=frozenset([98]))) == [Completion([97], "a", True, "stop")]
    assert engine.generate([line_end], Sampling(9, stop_ids=frozenset([97]))) == [Completion([], "", True, "stop")]
    assert list(engine.stream(line_end, Sampling(9, stop_ids=frozenset([97])))) == [Piece("", (), None, "stop")]


def test_the_context_is_the_limit(engine: LocalEngine) -> None:
    sampling = Sampling(100, temperature=0, stop_ids=NO_STOP)
    rows = [[5] * 63, [5] * 60, [5]]
    completions = engine.generate(rows, sampling)
    assert [len(completion.ids) for completion in completions] == [1, 4, 63]
    assert not any(completion.stopped for completion in completions)
    assert [completion.ids for completion in completions] == [recomputed(engine, row, sampling, 0) for row in rows]
    with pytest.raises(InputError, match="a prompt of 64 tokens leaves no room in the context of 64"):
        engine.generate([[5] * 64], sampling)
    with pytest.raises(InputError, match="at least one token"):
        engine.generate([[5], []], sampling)
    with pytest.raises(InputError, match="at least one token"):
        list(engine.stream([], sampling))
    assert engine.generate([], sampling) == []


@pytest.mark.parametrize("seed", range(6))
def test_stream_concatenates_to_generate(engine: LocalEngine, seed: int) -> None:
    """Random models write broken UTF-8, so the pieces are put to the test as well."""
    sampling = Sampling(40, temperature=1.0, top_p=1.0, seed=seed)
    for row, prompt in enumerate(prompts(seed)[:4]):
        pieces = list(engine.stream(prompt, sampling, row))
        whole = engine.generate([prompt], sampling, rows=[row])[0]
        assert "".join(piece.text for piece in pieces) == whole.text == TOKENIZER.decode(whole.ids)
        assert [id for piece in pieces for id in piece.ids] == whole.ids
        assert all(piece.text for piece in pieces[:-1]), "no piece but the last is empty"
        assert [piece.finish for piece in pieces] == [None] * (len(pieces) - 1) + [whole.finish]


def test_pieces_never_break_a_character() -> None:
    text = "é日🐑x"
    engine = LocalEngine(*parrot(text.encode()))
    whole = engine.stream([ord("\n")], Sampling(20, temperature=0))
    assert [piece.text for piece in whole] == ["é", "日", "🐑", "x", ""]
    cut = engine.stream([ord("\n")], Sampling(7, temperature=0))
    assert [piece.text for piece in cut] == ["é", "日", "\ufffd"], "what is cut off inside a character is one sign"


def test_score_equals_the_log_softmax_of_the_whole_sequence(engine: LocalEngine) -> None:
    generator = torch.Generator().manual_seed(1)
    pairs = []
    for context, continuation in ((1, 1), (5, 3), (2, 9), (40, 20), (3, 3), (63, 1), (1, 64)):
        ids = torch.randint(0, TOKENIZER.vocab_size, (context + continuation,), generator=generator).tolist()
        pairs.append((ids[:context], ids[context:]))
    done: list[int] = []
    scores = engine.score(pairs, batch_tokens=100, on_progress=done.append)
    assert sum(done) == len(pairs)
    assert len(done) > 2
    for (context, continuation), score in zip(pairs, scores, strict=True):
        ids = torch.tensor([[*context, *continuation]])
        with torch.no_grad():
            logprobs = torch.log_softmax(engine.model.logits(engine.model(ids[:, :-1])), -1)[0, len(context) - 1 :]
        assert score.logprob == pytest.approx(
            sum(float(logprobs[place, token]) for place, token in enumerate(continuation)), abs=1e-4
        )
        assert score.tokens == len(continuation)
        assert not score.greedy
    alone = [engine.score([pair])[0] for pair in pairs]
    assert [score.logprob for score in alone] == pytest.approx([score.logprob for score in scores], abs=1e-4)


def test_score_knows_what_greedy_decoding_would_write(engine: LocalEngine) -> None:
    for prompt in prompts()[:5]:
        written = engine.generate([prompt], Sampling(6, temperature=0, stop_ids=NO_STOP))[0].ids
        changed = [*written[:-1], (written[-1] + 1) % 500]
        assert [score.greedy for score in engine.score([(prompt, written), (prompt, changed)])] == [True, False]


def test_score_cuts_the_context_from_its_beginning(engine: LocalEngine) -> None:
    """As lm-evaluation-harness does: the last `context_length` + 1 tokens, of which the last is only a target."""
    ids = torch.randint(0, 500, (100,), generator=torch.Generator().manual_seed(2)).tolist()
    long, short = engine.score([(ids[:90], ids[90:]), (ids[35:90], ids[90:])])
    assert long.logprob == pytest.approx(short.logprob, abs=1e-4)
    for pair in (([], [1]), ([1], [])):
        with pytest.raises(InputError, match="at least one token"):
            engine.score([pair])
    with pytest.raises(InputError, match="a continuation of 65 tokens exceeds the context of 64"):
        engine.score([([1], [2] * 65)])


def test_progress_counts_every_completion(engine: LocalEngine) -> None:
    done: list[int] = []
    engine.generate(prompts(), Sampling(5), on_progress=done.append)
    assert sum(done) == len(prompts())


def exported(model: Llama, folder: Path) -> Any:
    """The model as transformers reads it."""
    transformers = pytest.importorskip("transformers")
    ranks = BYTES | {token: 256 + rank for rank, token in enumerate(MERGES)}
    (folder / "tokenizer").mkdir()
    write_ranks(folder / "tokenizer" / MODEL_FILE, ranks)
    write_huggingface(folder / "tokenizer" / "tokenizer.json", ranks)
    save_model(model, folder / "model")
    export(folder / "model", folder / "tokenizer", folder / "hf")
    return transformers.AutoModelForCausalLM.from_pretrained(folder / "hf").eval()


def test_log_probabilities_equal_those_of_transformers(engine: LocalEngine, tmp_path: Path) -> None:
    assert engine.model is not None
    peer = exported(engine.model, tmp_path)
    written = engine.generate(prompts(), Sampling(20, temperature=0.8, seed=1, stop_ids=NO_STOP, logprobs=4))
    for prompt, completion in zip(prompts(), written, strict=True):
        ids = [*prompt, *completion.ids]
        with torch.no_grad():
            expected = torch.log_softmax(peer(torch.tensor([ids])).logits[0].double(), -1)
        assert completion.logprobs is not None
        read = engine.prompt_logprobs(ids, top=4)
        assert read[0] is None
        for place, found in enumerate(read[1:], start=1):
            assert found is not None
            assert found.id == ids[place]
            best = expected[place - 1].topk(4)
            assert found.logprob == pytest.approx(float(expected[place - 1, ids[place]]), abs=1e-4)
            assert [id for id, _ in found.top] == best.indices.tolist()
            assert [value for _, value in found.top] == pytest.approx(best.values.tolist(), abs=1e-4)
        for ours, again in zip(completion.logprobs, read[len(prompt) :], strict=True):
            assert again is not None
            assert (ours.id, [id for id, _ in ours.top]) == (again.id, [id for id, _ in again.top])
            assert ours.logprob == pytest.approx(again.logprob, abs=1e-4)


def test_stop_strings_end_the_text_before_them() -> None:
    engine = LocalEngine(*parrot(b"one two"[:3] + b" tw"))
    prompt = [ord("\n")]
    whole = engine.generate([prompt], Sampling(20, temperature=0))[0]
    assert whole.text == "one tw"
    found = engine.generate([prompt], Sampling(20, temperature=0, stop=("e t", "zzz")))[0]
    assert (found.text, found.finish) == ("on", "stop")
    assert engine.tokenizer.decode(found.ids) == "one t", "the tokens that spell it are there"
    pieces = [piece.text for piece in engine.stream(prompt, Sampling(20, temperature=0, stop=("e x", "w")))]
    assert pieces == ["o", "n", "e t", ""]
    assert engine.generate([prompt], Sampling(20, temperature=0, stop=("nowhere",)))[0].text == "one tw"


def test_prompts_are_read_within_the_context(engine: LocalEngine) -> None:
    assert engine.prompt_logprobs([5]) == [None]
    assert len(engine.prompt_logprobs([5] * 64)) == 64
    for wrong in ([], [5] * 65):
        with pytest.raises(InputError, match="tokens cannot be read with a context of 64"):
            engine.prompt_logprobs(wrong)
    with pytest.raises(InputError, match="the prompt has the id 519, which is not in the vocabulary of 519"):
        engine.generate([[519]], Sampling(1))


def test_scores_come_from_the_weights_that_generate(engine: LocalEngine) -> None:
    """In bfloat16 they go through the same runner; in float32 the tree and the runner agree."""
    assert engine.model is not None
    asked = [(prompt, [7, 8, number]) for prompt in prompts()[:5] for number in range(3)] + [([1], [2] * 64)]
    exact = engine.score(asked)
    rounded = LocalEngine(engine.model, TOKENIZER, weights="bfloat16")
    assert rounded.model is None
    for score, close, (context, continuation) in zip(exact, rounded.score(asked), asked, strict=True):
        assert close.logprob == pytest.approx(score.logprob, rel=0.1)
        assert close.logprob != score.logprob
        if len(context) + len(continuation) <= 64:
            read = engine.prompt_logprobs([*context, *continuation])[len(context) :]
            assert score.logprob == pytest.approx(sum(each.logprob for each in read if each), abs=1e-4)


def test_a_stream_given_up_leaves_nothing_behind(engine: LocalEngine) -> None:
    for count in (0, 1, 5):
        pieces = engine.stream([1, 2, 3], Sampling(50, temperature=0, stop_ids=NO_STOP))
        for _ in range(count):
            next(pieces)
        pieces.close()
        assert not engine.scheduler.running
        assert not engine.scheduler.waiting
        assert engine.scheduler.cache.bytes_used == 0
    with pytest.raises(ZeroDivisionError):
        engine.generate([[1], [2]], Sampling(5), on_progress=lambda count: 1 // 0)
    assert engine.scheduler.cache.bytes_used == 0
