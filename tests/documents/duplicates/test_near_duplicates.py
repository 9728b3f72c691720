"""Near duplicates against exact Jaccard similarity, the probability of banding, and clusters found by brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from herdsman.documents.duplicates import near_duplicates, shuffle
from herdsman.documents.duplicates.duplicate_options import DuplicateOptions
from herdsman.documents.duplicates.near_duplicates import Bands, Signer, band_keys, choose, join, similarity
from herdsman.documents.duplicates.word_hashes import BLOCK_CHARS, word_hashes

OPTIONS = DuplicateOptions()
HASHES = OPTIONS.bands * OPTIONS.rows
SIGNER = Signer(OPTIONS)


def words(rng: np.random.Generator, count: int) -> list[str]:
    return [f"w{number}" for number in rng.integers(0, 10**9, count)]


def pair(rng: np.random.Generator, shared: float) -> tuple[str, str]:
    """Two texts of 400 words of which the first `shared` are the same."""
    same = words(rng, int(400 * shared))
    return tuple(" ".join(same + words(rng, 400 - len(same))) for _ in range(2))  # type: ignore[return-value]


def exact(one: str, other: str) -> float:
    """Jaccard similarity of the sets of 5-grams as tuples of words: no hash takes part."""
    grams = [{tuple(text.split()[at : at + 5]) for at in range(len(text.split()) - 4)} for text in (one, other)]
    return len(grams[0] & grams[1]) / len(grams[0] | grams[1])


def clusters(
    folder: Path,
    signatures: np.ndarray,
    threshold: float,
    languages: np.ndarray | None = None,
    units: int = 3,
) -> np.ndarray:
    """Which cluster each document is in, found over several files as the stage does."""
    options = OPTIONS if threshold == OPTIONS.similarity else DuplicateOptions(similarity=threshold)
    paths: tuple[list[Path], list[Path]] = ([], [])
    for number, places in enumerate(np.array_split(np.arange(len(signatures)), units)):
        mine = None if languages is None else languages[places]
        for files, array in zip(
            paths, (signatures[places], band_keys(signatures[places], places, mine, options)), strict=True
        ):
            files.append(folder / f"{len(list(folder.iterdir()))}-{number}.npy")
            shuffle.save(files[-1], array)
    edges = folder / f"edges {len(list(folder.iterdir()))}"
    edges.mkdir()
    bands = Bands(*paths, options, edges)
    return join(len(signatures), map(np.load, map(bands, bands.items(len(signatures)))))


@pytest.mark.parametrize("shared", [0.3, 0.6, 0.85, 0.95])
def test_estimate_is_unbiased_and_as_exact_as_112_hashes_allow(shared: float) -> None:
    rng = np.random.default_rng(1)
    pairs = [pair(rng, shared) for _ in range(60)]
    one, other = (SIGNER.sign(texts) for texts in zip(*pairs, strict=True))
    estimates = similarity(one, other)
    truth = exact(*pairs[0])
    deviation = np.sqrt(truth * (1 - truth) / HASHES)
    assert abs(estimates.mean() - truth) < 4 * deviation / np.sqrt(len(pairs))
    assert 0.6 * deviation < estimates.std() < 1.5 * deviation


@pytest.mark.parametrize(("jaccard", "published"), [(0.70, 0.56), (0.75, 0.77), (0.80, 0.92), (0.85, 0.988)])
def test_documents_meet_in_a_band_as_often_as_fineweb_says(jaccard: float, published: float, tmp_path: Path) -> None:
    assert 1 - (1 - jaccard**OPTIONS.rows) ** OPTIONS.bands == pytest.approx(published, abs=0.008)
    rng = np.random.default_rng(2)
    shared = 2 * jaccard / (1 + jaccard)  # of n words each, n * shared in common: s / (2 - s) = jaccard
    pairs = [pair(rng, shared) for _ in range(300)]
    # With next to no threshold, those that meet in a band are those that are joined.
    found = clusters(tmp_path, SIGNER.sign([text for both in pairs for text in both]), 0.01)
    met = found[1::2] == found[::2]
    truth = exact(*pairs[0])
    expected = 1 - (1 - truth**OPTIONS.rows) ** OPTIONS.bands
    assert abs(np.mean(met) - expected) < 4 * np.sqrt(expected * (1 - expected) / len(pairs))


def copies() -> np.ndarray:
    rng = np.random.default_rng(3)
    texts = []
    for _ in range(12):
        base = words(rng, 300)
        for copy in range(4):
            texts.append(" ".join(base[: 300 - 18 * copy] + words(rng, 18 * copy)))
    return SIGNER.sign([texts[at] for at in rng.permutation(len(texts))])


def test_clusters_are_those_of_brute_force_in_any_number_of_files_and_ranges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signatures = copies()
    bands = signatures.reshape(len(signatures), OPTIONS.bands, OPTIONS.rows)
    label = np.arange(len(signatures))
    for one in range(len(label)):
        for other in range(one):
            met = (bands[one] == bands[other]).all(axis=1).any()
            if met and (signatures[one] == signatures[other]).mean() >= 0.75:
                joined = np.isin(label, [label[one], label[other]])
                label[joined] = min(label[one], label[other])
    assert len(np.unique(label)) < len(label) - 12
    for units, per_part in ((1, 4_000_000), (5, 4_000_000), (4, 7)):
        monkeypatch.setattr(shuffle, "RECORDS_PER_PART", per_part)
        assert clusters(tmp_path, signatures, 0.75, units=units).tolist() == label.tolist()


def test_the_newest_longest_or_best_stays_and_of_equals_the_last() -> None:
    joined = np.array([0, 1, 0, 0, 1, 5])
    days = np.array([20, 3, 20, 19, 3, 1])
    assert choose(joined, days).tolist() == [2, 4, 2, 2, 4, 5]
    lengths = np.array([9, 8, 8, 9, 7, 1])
    assert choose(joined, lengths, days).tolist() == [0, 1, 0, 0, 1, 5]
    assert choose(np.arange(3), np.zeros(3)).tolist() == [0, 1, 2]


def test_documents_meet_within_their_language_only_if_asked_to(tmp_path: Path) -> None:
    signatures = np.repeat(SIGNER.sign(["a text that two languages share word for word"]), 4, axis=0)
    languages = np.array([1, 2, 1, 2], np.uint64)
    assert clusters(tmp_path, signatures, 0.75, languages).tolist() == [0, 1, 0, 1]
    assert clusters(tmp_path, signatures, 0.75).tolist() == [0, 0, 0, 0]


def test_chance_meetings_in_a_band_are_told_apart(tmp_path: Path) -> None:
    signatures = np.random.default_rng(4).integers(0, 2**16, (3, HASHES)).astype(np.uint16)
    signatures[2, : OPTIONS.rows] = signatures[0, : OPTIONS.rows]
    assert clusters(tmp_path, signatures, 0.75).tolist() == [0, 1, 2]
    assert clusters(tmp_path, signatures, 0.05).tolist() == [0, 1, 0]


def test_crowds_larger_than_the_neighbourhood_become_one_and_a_chain_too(tmp_path: Path) -> None:
    same = np.repeat(SIGNER.sign(["the same words on every page of the site"]), 500, axis=0)
    assert set(clusters(tmp_path, same, 0.75).tolist()) == {0}
    chain = np.arange(2000)
    pairs = np.stack([chain[:-1], chain[1:]])[:, np.random.default_rng(5).permutation(1999)]
    assert set(join(2001, [pairs[:, :900], pairs[:, 900:]]).tolist()) == {0, 2000}


def test_no_documents_and_a_single_one(tmp_path: Path) -> None:
    assert not len(clusters(tmp_path, np.empty((0, HASHES), np.uint16), 0.75))
    assert clusters(tmp_path, SIGNER.sign(["alone"]), 0.75).tolist() == [0]


def test_a_range_that_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signatures = copies()
    keys, edges = tmp_path / "keys.npy", tmp_path / "edges"
    shuffle.save(tmp_path / "signatures.npy", signatures)
    shuffle.save(keys, band_keys(signatures, np.arange(len(signatures)), None, OPTIONS))
    edges.mkdir()
    bands = Bands([tmp_path / "signatures.npy"], [keys], OPTIONS, edges)
    whole = join(len(signatures), map(np.load, map(bands, bands.items(len(signatures)))))
    (edges / "edges-003-00000-of-00001.npy").unlink()
    compared: list[int] = []
    read = near_duplicates.read_part
    monkeypatch.setattr(near_duplicates, "read_part", lambda *a: compared.append(a[3]) or read(*a))
    assert join(len(signatures), map(np.load, map(bands, bands.items(len(signatures))))).tolist() == whole.tolist()
    assert compared == [3]


def test_shingles_ignore_case_and_punctuation_and_read_unspaced_scripts_by_character() -> None:
    sign = SIGNER.sign
    assert (sign(["One, two: THREE four five six"]) == sign(["one two three, four five six!"])).all()
    assert (sign(["Gänse ÜBER Straßen gehen im März"]) == sign(["gänse über straßen (gehen) im märz"])).all()
    text = "".join(chr(0x4E00 + number) for number in range(60))
    assert len(SIGNER.shingles([text])[0]) == 56
    assert 0.5 < similarity(sign([text]), sign([text[:50]]))[0] < 1
    assert not (sign(["---"]) == sign(["***"])).any()  # no words at all: the text itself


def test_words_are_told_apart_by_every_character_and_place() -> None:
    texts = [a + b + c for a in "ab1é語" for b in "abxñ_" for c in ("", "a", "ba", "č0")]
    assert len({tuple(word_hashes(text).hashes.tolist()) for text in texts}) == len(texts)
    repeated, _, _, _ = word_hashes("again and again")
    assert (repeated[0], repeated[1] == repeated[0]) == (repeated[2], False)


def test_signatures_are_a_function_of_the_text_alone() -> None:
    long = "a signature is a function of the text alone, " + " ".join(words(np.random.default_rng(6), 20_000))
    assert len(long) > 3 * BLOCK_CHARS
    texts = ["", "one", "two words", "---", long, "a text of six words here", long[:BLOCK_CHARS], "x" * 10, long]
    together = SIGNER.sign(texts)
    for text, signature in zip(texts, together, strict=True):
        assert (SIGNER.sign([text])[0] == signature).all()
    assert similarity(together[4:5], together[6:7])[0] < 0.5


@pytest.mark.parametrize(("shingle_words", "same"), [(1, True), (2, False)])
def test_other_parameters(shingle_words: int, same: bool) -> None:
    signer = Signer(DuplicateOptions(shingle_words=shingle_words, bands=4, rows=3))
    one, other = signer.sign(["the red and the blue", "blue and red and the the"])
    assert one.shape == (12,)
    assert (one == other).all() == same
