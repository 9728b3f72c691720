"""Near duplicates against exact Jaccard similarity, the probability of banding, and clusters found by brute force."""

from __future__ import annotations

import numpy as np
import pytest

from herdsman.documents.near_duplicates import BANDS, HASHES, ROWS, Signer, find_clusters, similarity

SAME_DAY = ["2024-05-05"] * 3


def words(rng: np.random.Generator, count: int) -> list[str]:
    return [f"w{number}" for number in rng.integers(0, 10**9, count)]


def pair(rng: np.random.Generator, shared: float) -> tuple[str, str]:
    """Two texts of 400 words of which the first `shared` are the same."""
    same = words(rng, int(400 * shared))
    return tuple(" ".join(same + words(rng, 400 - len(same))) for _ in range(2))  # type: ignore[return-value]


def exact(signer: Signer, one: str, other: str) -> float:
    """Jaccard similarity of the sets of 5-grams as tuples of words: no hash takes part."""
    grams = [{tuple(text.split()[at : at + 5]) for at in range(len(text.split()) - 4)} for text in (one, other)]
    return len(grams[0] & grams[1]) / len(grams[0] | grams[1])


@pytest.mark.parametrize("shared", [0.3, 0.6, 0.85, 0.95])
def test_estimate_is_unbiased_and_as_exact_as_112_hashes_allow(shared: float) -> None:
    rng, signer = np.random.default_rng(1), Signer()
    pairs = [pair(rng, shared) for _ in range(60)]
    estimates = np.array([similarity(signer.sign(one), signer.sign(other)) for one, other in pairs])
    truth = exact(signer, *pairs[0])
    deviation = np.sqrt(truth * (1 - truth) / HASHES)
    assert abs(estimates.mean() - truth) < 4 * deviation / np.sqrt(len(pairs))
    assert 0.6 * deviation < estimates.std() < 1.5 * deviation


@pytest.mark.parametrize(("jaccard", "published"), [(0.70, 0.56), (0.75, 0.77), (0.80, 0.92), (0.85, 0.988)])
def test_documents_meet_in_a_band_as_often_as_fineweb_says(jaccard: float, published: float) -> None:
    assert 1 - (1 - jaccard**ROWS) ** BANDS == pytest.approx(published, abs=0.008)
    rng, signer = np.random.default_rng(2), Signer()
    shared = 2 * jaccard / (1 + jaccard)  # of n words each, n * shared in common: s / (2 - s) = jaccard
    pairs = [pair(rng, shared) for _ in range(300)]
    # With no threshold, those that meet in a band are those that are joined.
    met = [find_clusters(np.stack([signer.sign(text) for text in both]), 0.0, SAME_DAY).kept[0] == 1 for both in pairs]
    truth = exact(signer, *pairs[0])
    expected = 1 - (1 - truth**ROWS) ** BANDS
    assert abs(np.mean(met) - expected) < 4 * np.sqrt(expected * (1 - expected) / len(pairs))


def test_clusters_are_those_of_brute_force() -> None:
    rng, signer = np.random.default_rng(3), Signer()
    texts = []
    for _ in range(12):
        base = words(rng, 300)
        for copy in range(4):
            texts.append(" ".join(base[: 300 - 18 * copy] + words(rng, 18 * copy)))
    order = rng.permutation(len(texts))
    signatures = np.stack([signer.sign(texts[at]) for at in order])
    dates = rng.choice(["2023", "2024", "2025"], len(texts)).tolist()
    found = find_clusters(signatures, 0.75, dates)

    bands = signatures.reshape(len(texts), BANDS, ROWS)
    label = np.arange(len(texts))
    for one in range(len(texts)):
        for other in range(one):
            met = (bands[one] == bands[other]).all(axis=1).any()
            if met and (signatures[one] == signatures[other]).mean() >= 0.75:
                label[label == label[one]] = min(label[one], label[other])
                label[label == label[other]] = min(label[one], label[other])
    clusters = {name: np.flatnonzero(label == name).tolist() for name in set(label.tolist())}
    newest = {name: max(members, key=lambda at: (dates[at], at)) for name, members in clusters.items()}
    assert found.kept.tolist() == [newest[name] for name in label.tolist()]
    assert len(set(found.kept.tolist())) < len(texts) - 12
    np.testing.assert_allclose(found.similarity, (signatures == signatures[found.kept]).mean(axis=1))


def test_chance_meetings_in_a_band_are_told_apart() -> None:
    signatures = np.random.default_rng(4).integers(0, 2**32, (3, HASHES), np.uint32)
    signatures[2, :ROWS] = signatures[0, :ROWS]
    assert find_clusters(signatures, 0.75, SAME_DAY).kept.tolist() == [0, 1, 2]
    assert find_clusters(signatures, 0.05, SAME_DAY).kept.tolist() == [2, 1, 2]
    assert find_clusters(signatures, 0.05, ["2025", "2024", "2024"]).kept.tolist() == [0, 1, 0]


def test_crowds_larger_than_the_neighbourhood_become_one() -> None:
    signatures = np.tile(Signer().sign("the same words on every page of the site"), (500, 1))
    assert set(find_clusters(signatures, 0.75, ["2024"] * 500).kept.tolist()) == {499}


def test_no_documents_and_a_single_one() -> None:
    assert not len(find_clusters(np.empty((0, HASHES), np.uint32), 0.75, []).kept)
    assert find_clusters(Signer().sign("alone")[None], 0.75, SAME_DAY).kept.tolist() == [0]


def test_shingles_ignore_case_and_punctuation_and_read_unspaced_scripts_by_character() -> None:
    signer = Signer()
    assert (signer.sign("One, two: THREE four five six") == signer.sign("one two three, four five six!")).all()
    text = "".join(chr(0x4E00 + number) for number in range(60))
    assert len(signer.shingles(text)) == 56
    assert 0.5 < similarity(signer.sign(text), signer.sign(text[:50])) < 1
    assert not (signer.sign("---") == signer.sign("***")).any()  # no words at all: the text itself


def test_signatures_do_not_depend_on_what_was_signed_before() -> None:
    used = Signer()
    used.sign("quite other words")
    text = "a signature is a function of the text alone " * 900
    assert (used.sign(text) == Signer().sign(text)).all()
