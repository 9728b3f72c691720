"""Documents that mean the same in other words, as the pipeline of April 2024 removed them: off by default.

SemDeDup (Abbas 2023): embeddings are put into clusters by k-means, and only documents of one cluster are compared. An
embedding is the mean of the static vectors of a text's tokens, which needs no network to run. Different editions of a
page lie above a cosine of 0.95, different pages of one manual seldom do; a text and its translation do not meet.

Embeddings lie on disk in 16 bits; in memory are those of one cluster and a block of similarities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load
from tokenizers import Tokenizer

from herdsman.artifacts import ARTIFACTS, fetch, read_member
from herdsman.documents.duplicates.shuffle import Spread, read_part, save, save_sorted
from herdsman.errors import InputError
from herdsman.progress import Progress

Embeddings = NDArray[np.float16]
TEXT_CHARS = 10_000  # of a document that are read
CLUSTER_DOCUMENTS = 2_000  # on average
_SAMPLES, _ROUNDS = 64, 10  # documents for each cluster that k-means learns from, and how often
_ROWS_AT_ONCE = 2_048
_WORDLLAMA = "wordllama/tokenizers/l2_supercat_tokenizer_config.json", "wordllama/weights/l2_supercat_256.safetensors"


def find_model(name: str, progress: Progress) -> Path:
    """Where the model lies; `wordllama` (MIT, 256 dimensions) is fetched first if it is not there.

    Raises:
        InputError: there is no such folder.
    """
    if name == "wordllama":
        return fetch(ARTIFACTS[name], progress)
    folder = Path(name).expanduser()
    if not (folder / "tokenizer.json").is_file() or len(list(folder.glob("*.safetensors"))) != 1:
        raise InputError("holds no tokenizer.json with one *.safetensors", where=folder, do="name a folder that does")
    return folder


class Embedder:
    """Reads a model of static vectors."""

    def __init__(self, model: Path):
        if model.is_dir():
            tokenizer, weights = (
                (model / "tokenizer.json").read_bytes(),
                next(model.glob("*.safetensors")).read_bytes(),
            )
        else:
            tokenizer, weights = (read_member(model, name) for name in _WORDLLAMA)
        self._tokenizer = Tokenizer.from_buffer(tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        matrices = [matrix for matrix in load(weights).values() if matrix.ndim == 2]
        if len(matrices) != 1:
            raise InputError(f"has {len(matrices)} matrices, not one of token vectors", where=model)
        self._vectors = matrices[0].astype(np.float32)

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """The directions of texts, of length 1 or 0 if there is nothing to read; [texts, dimensions]"""
        result = np.zeros((len(texts), self._vectors.shape[1]), np.float32)
        for number, text in enumerate(texts):
            tokens = self._tokenizer.encode(text[:TEXT_CHARS], add_special_tokens=False).ids
            if tokens:
                result[number] = self._vectors[tokens].mean(axis=0)
        return _directions(result).astype(np.float16)


def learn_centroids(embeddings: Sequence[Path], seed: int) -> NDArray[np.float32]:
    """Centres of clusters by spherical k-means on a sample, [clusters, dimensions]."""
    spread = Spread(embeddings)
    clusters = max(1, round(len(spread) / CLUSTER_DOCUMENTS))
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(spread), min(len(spread), clusters * _SAMPLES), replace=False))
    sample = spread.take(chosen).astype(np.float32)
    centroids = sample[np.sort(rng.choice(len(sample), clusters, replace=False))]
    for _ in range(_ROUNDS):
        nearest = _nearest(sample, centroids)
        sums = np.zeros_like(centroids)
        np.add.at(sums, nearest, sample)
        filled = sums.any(axis=1)
        centroids[filled] = _directions(sums[filled])
    return centroids


def assign(embeddings: Embeddings, places: NDArray[np.int64], centroids: NDArray[np.float32], path: Path) -> None:
    """Writes which cluster each document of a unit is in, by cluster: its range of keys, its row in all embeddings.

    Args:
        places: of these documents among all that are embedded, [documents]
    """
    nearest = _nearest(embeddings.astype(np.float32), centroids).astype(np.uint64)
    # The lower bound of the cluster's range, see `shuffle.read_part`.
    save_sorted(path, nearest * np.uint64(2**32) // np.uint64(len(centroids)) << np.uint64(32), places)


@dataclass(frozen=True)
class Cluster:
    """Finds the documents of a cluster that say what another of higher rank says.

    Attributes:
        rank: file of each embedded document's place in the order of keeping, the best first; [embedded]
    """

    embeddings: Sequence[Path]
    assignments: Sequence[Path]
    rank: Path
    threshold: float
    folder: Path

    def __call__(self, item: tuple[int, int]) -> Path:
        """Rows of the dropped, of the kept ones they are like, and their similarity, [3, dropped]; the file it is in.
        A cluster whose file stands is done."""
        cluster, clusters = item
        path = self.folder / f"alike-{cluster:06d}.npy"
        if not path.exists():
            rows = read_part(self.assignments, cluster, clusters)[1].astype(np.int64)
            rows = rows[np.argsort(np.load(self.rank, mmap_mode="r")[rows])]
            save(path, self._alike(rows, Spread(self.embeddings)))
        return path

    def _alike(self, rows: NDArray[np.int64], spread: Spread) -> NDArray[np.float64]:
        """In the order of keeping: a document goes if it is like one that stays."""
        embeddings = spread.take(rows).astype(np.float32)
        stays = np.ones(len(rows), bool)
        found: list[tuple[int, int, float]] = []
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            block = embeddings[start : start + _ROWS_AT_ONCE]
            cosines = np.round(block @ embeddings[: start + len(block)].T, 4)  # far below what a model can tell
            for row in np.flatnonzero((cosines >= self.threshold).sum(axis=1) > 1).tolist():
                before = np.where(stays[: start + row], cosines[row, : start + row], -1)
                if len(before) and before.max() >= self.threshold:
                    best = int(before.argmax())
                    stays[start + row] = False
                    found.append((int(rows[start + row]), int(rows[best]), float(before[best])))
        return np.array(found, np.float64).reshape(-1, 3).T


def _directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _nearest(embeddings: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    found = [
        (embeddings[start : start + _ROWS_AT_ONCE] @ centroids.T).argmax(axis=1)
        for start in range(0, len(embeddings), _ROWS_AT_ONCE)
    ]
    return np.concatenate([np.empty(0, np.int64), *found])
