"""The documents stage: pages become clean documents, each kept once, judged, sorted and mixed; others keep a reason.

What needs no other page happens file by file in worker processes (`units`). What needs all documents is decided from a
few numbers of each (`corpus`). A killed stage goes on after the last unit and the last range of keys that were done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet

from herdsman.documents import corpus as corpora
from herdsman.documents import summary
from herdsman.documents.corpus import Corpus
from herdsman.documents.mix import make_mix
from herdsman.documents.options import DocumentsOptions
from herdsman.documents.quality.teach import MODELS_FILE, teach
from herdsman.documents.steps import NEAR_DUPLICATE
from herdsman.documents.survey import survey
from herdsman.documents.units import Clean, Unit, extract_unit, publish_unit, score_unit
from herdsman.errors import InputError
from herdsman.files import read_json, write_json
from herdsman.parallel import map_ordered
from herdsman.workspace import Work

ROWS_PER_WORKER = 1_000  # for fewer, starting another process takes longer than it saves


def refine(options: DocumentsOptions, work: Work) -> None:
    """Writes `kept-*.parquet`, `dropped-*.parquet`, `facts-*.parquet` (see `store`), `mix.json` and `summary.json`.

    Every page is either kept or among the dropped with a reason.

    Raises:
        InputError: there are no pages, or none of them gives a document that is kept.
    """
    units = _units(work)
    _for_each(work, "extract", partial(extract_unit, options), units, [unit.pages for unit in units])
    corpus = Corpus.of(units, options, work)
    corpora.drop_same_addresses(corpus)
    corpora.drop_near_duplicates(corpus)
    if options.duplicates.semantic:
        corpora.drop_semantic_duplicates(corpus)
    if options.filters.enabled:
        corpora.drop_outliers(corpus)
        corpora.drop_private_domains(corpus)
    _require_some(bool(corpus.goes_on.any()), work)
    buckets, repeated = corpora.count_lines(corpus)
    clean = Clean(options, [unit.extracted / "numbers.npy" for unit in units], repeated)
    candidates = [unit.extracted / "candidates.parquet" for unit in units]
    _for_each(work, "clean", clean, corpora.cleanings(corpus, buckets), candidates)
    cleaned = [unit.cleaned / "documents.parquet" for unit in units]
    _require_some(any(parquet.read_metadata(path).num_rows for path in cleaned), work)
    models = teach(cleaned, options, work)
    _for_each(work, "score", partial(score_unit, models), units, cleaned)
    scores = [parquet.read_table(unit.scored, columns=["quality"])["quality"].to_numpy() for unit in units]
    threshold = float(np.quantile(np.concatenate(scores), 1 - options.quality.best_share, method="higher"))
    _for_each(work, "write", partial(publish_unit, work.out, threshold), units, cleaned)

    found = survey(work.out)
    if found.pages != found.documents + found.dropped:
        raise AssertionError(f"{found.pages} pages, but {found.documents} documents kept and {found.dropped} dropped")
    if not found.training:
        raise InputError(
            "no document is left to train on",
            where="documents",
            do="give more pages, relax `documents.filters`, or lower `documents.held_out_share`",
        )
    mix = make_mix(found.training, options.mix)
    write_json(work.out / "mix.json", mix)
    learned = read_json(models / MODELS_FILE)
    quality = {"threshold": round(threshold, 4), "judge": learned["judge"], "models": learned["tasks"]}
    work.counts.update(
        pages=found.pages,
        documents=found.documents,
        characters=sum(sums[3] for (_, _, name), sums in found.fates.items() if not name),
        dropped=found.dropped,
        near_duplicates=found.dropped_by(NEAR_DUPLICATE),
        held_out=found.held_out["documents"],
    )
    reports = [unit.cleaned / "report.json" for unit in units]
    work.summarise(summary.describe(work.out, found, reports, quality, mix, corpus.memory()))


def _units(work: Work) -> list[Unit]:
    pages = sorted(work.inputs["pages"].glob("pages-*.parquet"))
    if not pages:
        raise InputError("no pages are here", where=work.inputs["pages"], do="run the pages stage first")
    return [Unit(path.stem.removeprefix("pages-"), path, work.scratch) for path in pages]


def _require_some(documents: bool, work: Work) -> None:
    if not documents:
        raise InputError(
            "no document was kept", where=work.inputs["pages"], do="gather more pages or set documents.filters.enabled"
        )


def _for_each(work: Work, label: str, step: Callable[[Any], None], items: Iterable[Any], files: list[Path]) -> None:
    """Runs a step on every unit; `files` are what it reads, whose rows are counted for the progress bar."""
    rows = [parquet.read_metadata(path).num_rows for path in files]
    with work.progress.task(label, total=sum(rows), unit="documents") as task:
        workers = max(1, min(work.workers, len(files), sum(rows) // ROWS_PER_WORKER))
        for count, _ in zip(rows, map_ordered(step, items, workers, work.engine), strict=True):
            task.advance(count)
