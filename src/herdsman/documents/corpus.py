"""What is decided about all documents together: which of them are duplicates, and which lines repeat.

Every step goes over the units' files first and over ranges of keys then (`shuffle`), so that memory holds 64 bytes a
document (70 MB for a million) and one range for each worker. Each unit and each range that is done stays done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from herdsman.documents import steps
from herdsman.documents.duplicates import semantic
from herdsman.documents.duplicates.duplicate_options import DuplicateOptions
from herdsman.documents.duplicates.lines import RepeatedLines, write_counts
from herdsman.documents.duplicates.near_duplicates import Bands, band_keys, choose, compare, join
from herdsman.documents.duplicates.shuffle import Spread, parts_of, read_part, save, save_sorted
from herdsman.documents.filtering.domains import dense_domains
from herdsman.documents.filtering.filter_options import FilterOptions
from herdsman.documents.filtering.outliers import BUCKET_BITS, Counts, divergence, token_counts
from herdsman.documents.options import DocumentsOptions
from herdsman.documents.units import FATES, Cleaning, Unit
from herdsman.files import atomic_open
from herdsman.parallel import map_ordered
from herdsman.workspace import Work

ROWS_PER_WORKER = 100_000  # numbers of documents, not texts; for fewer, starting a process takes longer than it saves
DAY = 86_400
TEXT = 100  # times as long as with a document's numbers a step takes with its text

Task = tuple[Unit, int, NDArray[np.bool_]]
"""A unit, the place of its first candidate among all, and which of its candidates go on."""


@dataclass
class Corpus:
    """All candidates in stored order; arrays [candidates].

    Attributes:
        starts: place of each unit's first candidate, and of the end of all.
        fates: what dropped each one, by its place in `FATES`; 0 for those that go on.
        superiors: place of the document that each duplicate was dropped for, its own for all others.
        similarity: estimated, to that document; 1 where it was not measured.
        divergence: of tokens; NaN where it was not measured.
    """

    units: list[Unit]
    options: DocumentsOptions
    work: Work
    starts: NDArray[np.int64]
    fates: NDArray[np.uint8]
    superiors: NDArray[np.int64]
    similarity: NDArray[np.float32]
    divergence: NDArray[np.float64]

    @classmethod
    def of(cls, units: list[Unit], options: DocumentsOptions, work: Work) -> Corpus:
        starts = np.cumsum([0, *(len(unit.numbers()) for unit in units)])
        size = int(starts[-1])
        return cls(
            units, options, work, starts, np.zeros(size, np.uint8), np.arange(size), np.ones(size, np.float32),
            np.full(size, np.nan),
        )  # fmt: skip

    @property
    def goes_on(self) -> NDArray[np.bool_]:
        return self.fates == 0

    def numbers(self, name: str) -> NDArray[Any]:
        """A field of `units.NUMBERS` of all candidates."""
        return np.concatenate([unit.numbers()[name] for unit in self.units])

    def drop(self, name: str, places: NDArray[np.int64], superiors: NDArray[np.int64] | None = None) -> None:
        self.fates[places] = FATES.index(name)
        if superiors is not None:
            self.superiors[places] = superiors

    def twins(self) -> NDArray[np.int64]:
        """Of each duplicate the document that its superior was dropped for in turn, up to one that was not."""
        twins = self.superiors.copy()
        while (above := self.superiors[twins])[above != twins].size:
            twins = above
        return twins

    def run(self, label: str, step: Callable[[Any], Any], items: Iterable[Any], total: int, rows: int) -> list[Any]:
        """The results of a step on all items; `rows` are the documents it reads altogether."""
        workers = max(1, min(self.work.workers, total, rows // ROWS_PER_WORKER))
        with self.work.progress.task(label, total=total, unit="parts") as task:
            results = []
            for result in map_ordered(step, items, workers, self.work.engine):
                results.append(result)
                task.advance()
        return results

    def for_each_unit(self, label: str, step: Callable[[Task], Any], rows: int | None = None) -> list[Any]:
        """The results of a step on all units with what goes on of them."""
        return self.run(label, step, self.tasks(), len(self.units), len(self.fates) if rows is None else rows)

    def tasks(self) -> Iterator[Task]:
        for unit, start, end in zip(self.units, self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True):
            yield unit, start, self.fates[start:end] == 0

    def memory(self) -> dict[str, int]:
        """Bytes held at once for all documents, by what they are held for."""
        return {
            "decisions": sum(array.nbytes for array in (self.fates, self.superiors, self.similarity, self.divergence)),
            "clusters": 24 * len(self.fates),  # while they are joined: parents, and their roots in turn
            "dates": 16 * len(self.fates),
        }

    def folder(self, step: str) -> Path:
        folder = self.work.scratch / step
        folder.mkdir(exist_ok=True)
        return folder


def drop_same_addresses(corpus: Corpus) -> None:
    """Of each address the newest version goes on, of equally old ones the first."""
    files = corpus.for_each_unit("addresses", _write_addresses)
    parts = parts_of(len(corpus.fates))
    step = partial(_older_versions, files, corpus.folder("older"))
    for path in corpus.run("addresses", step, ((part, parts) for part in range(parts)), parts, len(corpus.fates)):
        older, newest = np.load(path)
        corpus.drop(steps.URL_DUPLICATE, older, newest)


def _write_addresses(task: Task) -> Path:
    unit, start, _ = task
    path = unit.of("addresses")
    if not path.exists():
        numbers = unit.numbers()
        save_sorted(path, numbers["address"], numbers["seconds"], start + np.arange(len(numbers)))
    return path


def _older_versions(files: list[Path], folder: Path, item: tuple[int, int]) -> Path:
    """Places of older versions and of the newest ones, [2, older]; the file they are in."""
    part, parts = item
    path = folder / f"{part:05d}-of-{parts:05d}.npy"
    if not path.exists():
        addresses, seconds, places = read_part(files, part, parts)
        order = np.lexsort([places, ~seconds, addresses])
        addresses, places = addresses[order], places[order].astype(np.int64)
        new = np.ones(len(order), bool)
        new[1:] = addresses[1:] != addresses[:-1]
        newest = places[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
        save(path, np.stack([places[~new], newest[~new]]))
    return path


def drop_near_duplicates(corpus: Corpus) -> None:
    """Of each cluster the document goes on that the options keep."""
    options, folder = corpus.options.duplicates, corpus.folder("alike")
    files = corpus.for_each_unit("bands", partial(_write_bands, options))
    bands = Bands([unit.extracted / "signatures.npy" for unit in corpus.units], files, options, folder)
    items = bands.items(len(corpus.fates))
    rows = options.bands * len(corpus.fates) // 8  # a key is read faster than a document's other numbers
    edges = map(np.load, corpus.run("near duplicates", bands, items, len(items), rows))
    kept = choose(join(len(corpus.fates), edges), *_priorities(corpus))
    moved = np.flatnonzero(kept != np.arange(len(kept)))
    corpus.drop(steps.NEAR_DUPLICATE, moved, kept[moved])
    corpus.similarity[moved] = compare(Spread(bands.signatures), moved, kept[moved])


def _priorities(corpus: Corpus) -> list[NDArray[Any]]:
    first = {"newest": [], "longest": ["characters"], "best": ["grade"]}[corpus.options.duplicates.keep]
    return [*map(corpus.numbers, first), corpus.numbers("seconds") // DAY]


def _write_bands(options: DuplicateOptions, task: Task) -> Path:
    unit, start, goes_on = task
    path = unit.of("bands")
    if not path.exists():
        mine = np.flatnonzero(goes_on)
        languages = unit.numbers()["language"][mine] if options.scope == "language" else None
        signatures = np.load(unit.extracted / "signatures.npy", mmap_mode="r")[mine]
        save(path, band_keys(signatures, start + mine, languages, options))
    return path


def drop_semantic_duplicates(corpus: Corpus) -> None:
    """Of documents of nearly the same embedding the one goes on that the options keep."""
    options, work = corpus.options.duplicates, corpus.work
    model = semantic.find_model(options.semantic_model, work.progress)
    folder, places = corpus.folder("means"), np.flatnonzero(corpus.goes_on)
    heavy = TEXT * len(places)
    embeddings = corpus.for_each_unit("embeddings", partial(_write_embeddings, model), heavy)
    if not len(places):
        return
    centroids = folder / "centroids.npy"
    if not centroids.exists():
        save(centroids, semantic.learn_centroids(embeddings, work.seed))
    clusters = len(np.load(centroids, mmap_mode="r"))
    starts = np.searchsorted(places, corpus.starts[:-1]).tolist()
    assignments = corpus.run(
        "clusters", partial(_assign, centroids), zip(corpus.units, embeddings, starts, strict=True), len(starts), heavy
    )
    order = np.lexsort([places, *(values[places] for values in reversed(_priorities(corpus)))])[::-1]
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    save(folder / "rank.npy", rank)
    step = semantic.Cluster(embeddings, assignments, folder / "rank.npy", options.semantic_similarity, folder)
    items = ((cluster, clusters) for cluster in range(clusters))
    for path in corpus.run("semantic duplicates", step, items, clusters, heavy):
        dropped, kept, similarity = np.load(path)
        moved = places[dropped.astype(np.int64)]
        corpus.drop(steps.SEMANTIC_DUPLICATE, moved, places[kept.astype(np.int64)])
        corpus.similarity[moved] = similarity


def _write_embeddings(model: Path, task: Task) -> Path:
    unit, _, goes_on = task
    path = unit.of("embeddings")
    if not path.exists():
        texts = parquet.read_table(unit.extracted / "candidates.parquet", columns=["text"])["text"]
        save(path, semantic.Embedder(model).embed(texts.filter(pa.array(goes_on)).to_pylist()))
    return path


def _assign(centroids: Path, item: tuple[Unit, Path, int]) -> Path:
    unit, embeddings, start = item
    path = unit.of("assignments")
    if not path.exists():
        mine = np.load(embeddings)
        semantic.assign(mine, start + np.arange(len(mine)), np.load(centroids), path)
    return path


def drop_outliers(corpus: Corpus) -> None:
    """Documents go whose words are not those of their language."""
    texts = TEXT * int(corpus.goes_on.sum())
    counts, folder = Counts(), corpus.folder("languages")
    for path in corpus.for_each_unit("words", _write_words, texts):
        with np.load(path) as found:
            for number, language in enumerate(found["languages"].tolist()):
                table = counts.tables.setdefault(language, np.zeros(1 << BUCKET_BITS, np.int64))
                table[found[f"buckets{number}"]] += found[f"times{number}"]
    names = sorted(counts.tables)
    save(folder / "names.npy", np.array(names, np.str_))
    save(folder / "tables.npy", np.array([counts.tables[name] for name in names]))
    for at, path in enumerate(corpus.for_each_unit("outliers", partial(_write_divergence, folder), texts)):
        start, end = corpus.starts[at : at + 2].tolist()
        corpus.divergence[start:end] = np.load(path)
    above = corpus.divergence > corpus.options.filters.max_divergence  # never so where it was not measured
    corpus.drop(steps.OUTLIER_TOKENS, np.flatnonzero(above & corpus.goes_on))


def _texts(unit: Unit, goes_on: NDArray[np.bool_]) -> tuple[list[str], list[str]]:
    table = parquet.read_table(unit.extracted / "candidates.parquet", columns=["text", "language"])
    table = table.filter(pa.array(goes_on))
    return table["text"].to_pylist(), table["language"].to_pylist()


def _write_words(task: Task) -> Path:
    unit, _, goes_on = task
    path = unit.of("words").with_suffix(".npz")
    if not path.exists():
        tables = token_counts(*_texts(unit, goes_on)).tables
        columns: dict[str, NDArray[Any]] = {"languages": np.array(list(tables), np.str_)}
        for number, table in enumerate(tables.values()):
            columns[f"buckets{number}"] = np.flatnonzero(table)
            columns[f"times{number}"] = table[table > 0]
        with atomic_open(path) as file:
            np.savez(file, **columns)  # type: ignore[arg-type]
    return path


@cache
def _open_counts(folder: Path) -> Counts:
    tables = np.load(folder / "tables.npy", mmap_mode="r")
    return Counts(dict(zip(np.load(folder / "names.npy").tolist(), tables, strict=True)))


def _write_divergence(folder: Path, task: Task) -> Path:
    """Of each candidate that goes on and has words enough, else NaN."""
    unit, _, goes_on = task
    path = unit.of("divergence")
    if not path.exists():
        counts, found = _open_counts(folder), np.full(len(goes_on), np.nan)
        measured = [divergence(text, language, counts) for text, language in zip(*_texts(unit, goes_on), strict=True)]
        found[goes_on] = [np.nan if value is None else value for value in measured]
        save(path, found)
    return path


def drop_private_domains(corpus: Corpus) -> None:
    """All documents go of domains that are full of private data."""
    files = corpus.for_each_unit("domains", _write_domains)
    parts = parts_of(len(corpus.fates))
    step = partial(_dense, files, corpus.options.filters)
    found = corpus.run("domains", step, ((part, parts) for part in range(parts)), parts, len(corpus.fates))
    dense = np.array(sorted(domain for domains in found for domain in domains), np.uint64)
    if len(dense):
        hit = np.isin(corpus.numbers("domain"), dense)
        corpus.drop(steps.PRIVATE_DOMAIN, np.flatnonzero(hit & corpus.goes_on))


def _write_domains(task: Task) -> Path:
    unit, _, goes_on = task
    path = unit.of("domains")
    if not path.exists():
        numbers = unit.numbers()[goes_on]
        save_sorted(path, numbers["domain"], numbers["masked"], numbers["words"])
    return path


def _dense(files: list[Path], options: FilterOptions, item: tuple[int, int]) -> list[int]:
    """Hashes of the dense domains in one range."""
    domains, masked, words = read_part(files, *item)
    names, numbers = np.unique(domains, return_inverse=True)
    found, length = (np.bincount(numbers, weights=values, minlength=len(names)) for values in (masked, words))
    names, found, length = (values[found > 0] for values in (names, found, length))
    dense = dense_domains(names.astype(np.str_).tolist(), found.tolist(), length.tolist(), options)
    return [int(name) for name in dense]


def count_lines(corpus: Corpus) -> tuple[NDArray[np.int64], list[list[Path]]]:
    """The bucket of each candidate, and for each bucket the files of its repeated lines in the order of their keys."""
    options = corpus.options.duplicates
    buckets = np.maximum(np.cumsum(corpus.goes_on) - 1, 0) // options.line_bucket_documents
    count = int(buckets.max(initial=0)) + 1
    tasks = (
        (*task, buckets[start:end])
        for task, start, end in zip(
            corpus.tasks(), corpus.starts[:-1].tolist(), corpus.starts[1:].tolist(), strict=True
        )
    )
    step = partial(_count_lines, corpus.folder("lines"), options.line_mode == "keep_first")
    counted = corpus.run("lines", step, tasks, len(corpus.units), len(corpus.fates))
    repeated = []
    for bucket in range(count):
        files = [path for found in counted for number, path in found if number == bucket]
        parts = parts_of(sum(np.load(path, mmap_mode="r").shape[1] for path in files))
        ranges = RepeatedLines(files, options.line_repeats, corpus.folder(f"repeated-{bucket:05d}"))
        items = ((part, parts) for part in range(parts))
        repeated.append(corpus.run("lines", ranges, items, parts, len(corpus.fates)))
    return buckets, repeated


def _count_lines(
    folder: Path, places_too: bool, item: tuple[Unit, int, NDArray[np.bool_], NDArray[np.int64]]
) -> list[tuple[int, Path]]:
    """Of each bucket that a unit has documents in, the file of counts."""
    unit, start, goes_on, buckets = item
    counts = unit.numbers()["lines"]
    keys: NDArray[np.uint64] | None = None
    found = []
    for bucket in np.unique(buckets).tolist():
        path = folder / f"{unit.name}-{bucket:05d}.npy"
        if not path.exists():
            keys = np.load(unit.extracted / "lines.npy") if keys is None else keys
            mine = np.repeat(goes_on & (buckets == bucket), counts)
            places = np.repeat(start + np.arange(len(counts)), counts)[mine] if places_too else None
            write_counts(path, keys[mine], places)
        found.append((bucket, path))
    return found


def cleanings(corpus: Corpus, buckets: NDArray[np.int64]) -> Iterator[Cleaning]:
    """What is decided about the candidates of each unit."""
    twins = corpus.twins()
    for unit, start, end in zip(corpus.units, corpus.starts[:-1].tolist(), corpus.starts[1:].tolist(), strict=True):
        of = slice(start, end)
        yield Cleaning(
            unit, start, corpus.fates[of], corpus.superiors[of], twins[of], corpus.similarity[of],
            corpus.divergence[of], buckets[of],
        )  # fmt: skip
