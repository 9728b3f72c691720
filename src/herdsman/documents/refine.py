"""The documents stage: pages become clean documents, each kept once, judged, sorted and mixed; others keep a reason.

What needs no other page happens file by file in worker processes (`units`). What needs all documents, that is which of
them are duplicates, which lines repeat and what the classifier learns, is decided here from a few numbers of each: 448
bytes of signature, 8 for each line of prose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from herdsman.documents import summary
from herdsman.documents.lines import Keys, repeated_lines
from herdsman.documents.mix import make_mix
from herdsman.documents.near_duplicates import HASHES, find_clusters
from herdsman.documents.options import DocumentsOptions
from herdsman.documents.quality import choose_labelled, train_classifier
from herdsman.documents.summary import NEAR_DUPLICATE, URL_DUPLICATE
from herdsman.documents.units import (
    Cleaning,
    Fate,
    Unit,
    clean_unit,
    extract_unit,
    publish_unit,
    repeated_file,
    score_unit,
)
from herdsman.errors import InputError
from herdsman.files import atomic_open, write_json
from herdsman.parallel import map_ordered
from herdsman.workspace import Work

CLASSIFIER_FILE = "quality.bin"
ROWS_PER_WORKER = 1_000  # for fewer, starting another process takes longer than it saves


@dataclass(frozen=True)
class Corpus:
    """What is decided about all candidates, in stored order.

    Attributes:
        sizes: candidates of each unit.
        fates: None for those that go on.
        characters: of each candidate.
        similarity: estimated similarity of near duplicates to their twin; 1 for all others.
        twins: place of the candidate that each one stands for or is.
    """

    sizes: list[int]
    fates: list[Fate | None]
    characters: NDArray[np.int64]
    similarity: NDArray[np.float64]
    twins: NDArray[np.int64]

    def by_unit(self, values: list[Any]) -> Iterator[list[Any]]:
        ends = np.cumsum(self.sizes).tolist()
        return (values[end - size : end] for size, end in zip(self.sizes, ends, strict=True))


def refine(options: DocumentsOptions, work: Work) -> None:
    """Writes `kept-*.parquet`, `dropped-*.parquet` (see `store`), `mix.json` and `summary.json`.

    Every page is either kept or among the dropped with a reason. Extraction resumes after every file of pages.

    Raises:
        InputError: there are no pages, or none of them gives a document that is kept.
    """
    units = _units(work)
    _for_each(work, "extract", partial(extract_unit, options.filters), units, [unit.pages for unit in units])
    corpus = _find_duplicates(units, options.near_duplicate_similarity)
    candidates = [unit.extracted / "candidates.parquet" for unit in units]
    buckets = _count_lines(units, corpus, options)
    cleanings = map(Cleaning, units, corpus.by_unit(corpus.fates), corpus.by_unit(buckets))
    shares = (options.lines_left_share, options.held_out_share)
    _for_each(work, "clean", partial(clean_unit, shares), cleanings, candidates)
    cleaned = [unit.cleaned / "documents.parquet" for unit in units]
    if not any(parquet.read_metadata(path).num_rows for path in cleaned):
        raise InputError(
            "no document was kept", where=work.inputs["pages"], do="gather more pages or set documents.filters.enabled"
        )
    classifier = _teach(units, work)
    _for_each(work, "score", partial(score_unit, classifier), units, cleaned)
    scores = np.concatenate([np.load(unit.scored) for unit in units])
    threshold = float(np.quantile(scores, 1 - options.best_share, method="higher"))
    _for_each(work, "write", partial(publish_unit, work.out, threshold), units, cleaned)

    kept, dropped = summary.survey_kept(work.out), summary.survey_dropped(work.out)
    pages = sum(summary.report(unit.extracted)["pages"] for unit in units)
    if pages != kept.documents + dropped.documents:
        raise AssertionError(f"{pages} pages, but {kept.documents} documents kept and {dropped.documents} dropped")
    mix = make_mix(kept.training_bytes, options.mix, options.mix_tokens, options.max_epochs, options.anneal_best_weight)
    write_json(work.out / "mix.json", mix)
    quality = {"threshold": round(threshold, 4), "judge": "classifier" if classifier else "rubric"}
    work.counts.update(
        pages=pages,
        documents=kept.documents,
        characters=kept.characters,
        dropped=dropped.documents,
        near_duplicates=dropped.number(NEAR_DUPLICATE),
        held_out=kept.held_out["documents"],
    )
    work.summarise(
        summary.summarise(units, corpus, kept, dropped, scores, quality, mix, options.near_duplicate_similarity)
    )


def _units(work: Work) -> list[Unit]:
    pages = sorted(work.inputs["pages"].glob("pages-*.parquet"))
    if not pages:
        raise InputError("no pages are here", where=work.inputs["pages"], do="run the pages stage first")
    return [Unit(path.stem.removeprefix("pages-"), path, work.scratch) for path in pages]


def _for_each(work: Work, label: str, step: Callable[[Any], None], items: Iterable[Any], files: list[Path]) -> None:
    """Runs a step on every unit; `files` are what it reads, whose rows are counted for the progress bar."""
    rows = [parquet.read_metadata(path).num_rows for path in files]
    with work.progress.task(label, total=sum(rows), unit="documents") as task:
        results = map_ordered(step, items, max(1, min(work.workers, len(files), sum(rows) // ROWS_PER_WORKER)))
        for count, _ in zip(rows, results, strict=True):
            task.advance(count)


def _find_duplicates(units: list[Unit], threshold: float) -> Corpus:
    """Of each address the newest version goes on, of each cluster of near duplicates the newest document."""
    columns = ["id", "normalised_url", "crawled_at", "characters", "signature"]
    tables = [parquet.read_table(unit.extracted / "candidates.parquet", columns=columns) for unit in units]
    table = pa.concat_tables(tables)
    ids, dates = table["id"].to_pylist(), table["crawled_at"].to_pylist()
    newest = newest_of_address(table["normalised_url"].to_pylist(), dates)
    places = np.flatnonzero(newest == np.arange(len(newest)))
    signatures = np.frombuffer(b"".join(table["signature"].take(places).to_pylist()), np.uint32).reshape(-1, HASHES)
    clusters = find_clusters(signatures, threshold, [dates[place] for place in places.tolist()])

    fates: list[Fate | None] = [None] * len(ids)
    twins, similarity = np.arange(len(ids)), np.ones(len(ids))
    twins[places], similarity[places] = places[clusters.kept], clusters.similarity
    for at in np.flatnonzero(twins != np.arange(len(ids))).tolist():
        chain = "" if similarity[at] >= threshold else ", by way of documents between them"
        reason = f"it shares about {similarity[at]:.0%} of the phrases of five words with another document{chain}"
        fates[at] = (NEAR_DUPLICATE, reason, ids[twins[at]])
    for at in np.flatnonzero(newest != np.arange(len(ids))).tolist():
        twins[at] = twins[newest[at]]
        date = dates[newest[at]]
        fates[at] = (URL_DUPLICATE, f"the version of {date or 'unknown date'} is kept of this address", ids[twins[at]])
    return Corpus([len(part) for part in tables], fates, table["characters"].to_numpy(), similarity, twins)


def newest_of_address(addresses: list[str], dates: list[str]) -> NDArray[np.int64]:
    """For each document the place of the newest one with its address; of equally old ones the first. [documents]"""
    newest: dict[str, int] = {}
    for at, address in enumerate(addresses):
        if address not in newest or dates[at] > dates[newest[address]]:
            newest[address] = at
    return np.fromiter((newest[address] for address in addresses), np.int64, len(addresses))


def _count_lines(units: list[Unit], corpus: Corpus, options: DocumentsOptions) -> list[int]:
    """Writes the keys of repeated lines by bucket of documents to the scratch folder; the bucket of each candidate."""
    goes_on = np.array([fate is None for fate in corpus.fates], bool)
    bucket_of = np.maximum(np.cumsum(goes_on) - 1, 0) // options.line_bucket_documents

    def keys_of(bucket: int) -> Iterator[Keys]:
        start = 0
        for unit, size in zip(units, corpus.sizes, strict=True):
            counted = goes_on[start : start + size] & (bucket_of[start : start + size] == bucket)
            start += size
            if counted.any():
                lists = parquet.read_table(unit.extracted / "candidates.parquet", columns=["line_keys"])["line_keys"]
                yield lists.filter(pa.array(counted)).combine_chunks().flatten().to_numpy()

    for bucket in range(int(bucket_of.max(initial=0)) + 1):
        with atomic_open(repeated_file(units[0].scratch, bucket)) as file:
            np.save(file, repeated_lines(partial(keys_of, bucket), options.line_repeats))
    buckets: list[int] = bucket_of.tolist()
    return buckets


def _teach(units: list[Unit], work: Work) -> Path | None:
    """Trains the quality classifier on what the rubric is sure about; None if that is too little."""
    path = work.scratch / CLASSIFIER_FILE
    tables = [parquet.read_table(unit.cleaned / "documents.parquet", columns=["rubric"]) for unit in units]
    labels = choose_labelled(pa.concat_tables(tables)["rubric"].to_numpy())
    if not labels:
        return None
    if not path.exists():
        ends = np.cumsum([len(table) for table in tables])

        def examples() -> Iterator[tuple[str, bool]]:
            held, texts, start = -1, pa.chunked_array([], pa.string()), 0
            for label in labels:
                number = int(np.searchsorted(ends, label.index, side="right"))
                if number != held:
                    held, start = number, int(ends[number]) - len(tables[number])
                    texts = parquet.read_table(units[number].cleaned / "documents.parquet", columns=["text"])["text"]
                yield texts[label.index - start].as_py(), label.best

        with work.progress.task("teach quality", total=len(labels), unit="documents"):
            train_classifier(examples(), path, work.seed)
    return path
