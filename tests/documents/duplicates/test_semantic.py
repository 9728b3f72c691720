"""Semantic duplicates with the real model: paraphrases meet, other texts do not, and the better one stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from herdsman.artifacts import read_member
from herdsman.documents.duplicates import semantic
from herdsman.documents.duplicates.semantic import Cluster, Embedder, assign, find_model, learn_centroids
from herdsman.documents.duplicates.shuffle import save
from herdsman.errors import InputError
from herdsman.progress import SILENT

MILL = (
    "The old mill stands beside the river, and its wheel has turned for two hundred years. The miller grinds the corn "
    "that farmers bring from the villages nearby, and in winter the water freezes, so that no work is done."
)
MILL_AGAIN = (
    "Beside the river stands the old mill; for two hundred years its wheel has been turning. Farmers from nearby "
    "villages bring their corn for the miller to grind, and no work is done in winter, when the water freezes."
)
OTHERS = [
    "A function that calls itself needs a condition under which it stops, or else it runs until memory is used up.",
    "The parliament voted on the new budget after a long debate about taxes, schools and the army.",
    "To bake bread you mix flour, water, salt and yeast, let the dough rest, and put it into a hot oven.",
]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(find_model("wordllama", SILENT))


def test_paraphrases_are_close_and_other_texts_are_not(embedder: Embedder) -> None:
    stored = embedder.embed([MILL, MILL_AGAIN, *OTHERS, ""])
    assert stored.dtype == np.float16
    vectors = stored.astype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1] * 5 + [0], atol=2e-3)
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > 0.9
    assert cosines[:5, :5][~np.eye(5, dtype=bool) & (np.arange(5)[:, None] > 1)].max() < 0.7


def test_a_folder_of_ones_own_serves_as_well(embedder: Embedder, tmp_path: Path) -> None:
    wheel = find_model("wordllama", SILENT)
    for name, member in zip(("tokenizer.json", "vectors.safetensors"), semantic._WORDLLAMA, strict=True):
        (tmp_path / name).write_bytes(read_member(wheel, member))
    own = Embedder(find_model(str(tmp_path), SILENT))
    assert (own.embed(OTHERS) == embedder.embed(OTHERS)).all()
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        find_model(str(tmp_path / "nothing"), SILENT)


def test_the_higher_rank_stays_whatever_the_clusters(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [MILL, *OTHERS, MILL_AGAIN, OTHERS[1] + " So it did.", MILL + " It is open on Sundays."]
    vectors = embedder.embed(texts)
    files = [tmp_path / "one.npy", tmp_path / "two.npy"]
    for file, part in zip(files, (vectors[:4], vectors[4:]), strict=True):
        save(file, part)
    save(tmp_path / "rank.npy", np.array([0, 6, 5, 4, 2, 3, 1]))
    for documents, rows in ((2_000, 2_048), (4, 2)):
        monkeypatch.setattr(semantic, "CLUSTER_DOCUMENTS", documents)
        monkeypatch.setattr(semantic, "_ROWS_AT_ONCE", rows)
        folder = tmp_path / f"clusters of {documents}"
        folder.mkdir()
        centroids = learn_centroids(files, 1)
        assert (centroids == learn_centroids(files, 1)).all()
        assert len(centroids) == max(1, round(7 / documents))
        assigned = [folder / "a.npy", folder / "b.npy"]
        for path, start, end in zip(assigned, (0, 4), (4, 7), strict=True):
            assign(vectors[start:end], np.arange(start, end), centroids, path)
        step = Cluster(files, assigned, tmp_path / "rank.npy", 0.9, folder)
        found = np.concatenate([np.load(step((at, len(centroids)))) for at in range(len(centroids))], axis=1)
        assert dict(zip(found[0].tolist(), found[1].tolist(), strict=True)) == {4: 0, 6: 0, 2: 5}
        assert (found[2] >= 0.9).all()
