"""The search stage: the index of the herd's own documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from herdsman.documents.store import read_batches, read_documents
from herdsman.tools.index import FIELDS, FILE, build_index
from herdsman.tools.options import SearchOptions
from herdsman.workspace import Work


def make_index(options: SearchOptions, work: Work) -> None:
    """Writes the index of the kept documents, or of the best of them, as `index.sqlite`.

    Held-out documents are left out: nothing that a model writes with this tool may carry them into training.

    Raises:
        InputError: there are no documents.
        MachineError: SQLite was built without FTS5, or the disk is full.
    """
    folder = work.inputs["documents"]
    chosen = _best(folder, options.documents)
    rows = compress(read_documents(folder, "train", [*FIELDS, "text"]), chosen)
    with work.progress.task("index", total=int(chosen.sum()), unit="documents") as task:

        def counted() -> Iterator[Mapping[str, Any]]:
            for row in rows:
                yield row
                task.advance()

        work.counts.update(build_index(counted(), work.out / FILE, options.passage_characters))
    work.summarise(dict(work.counts))


def _best(folder: Path, most: int) -> np.ndarray:
    """For each training document whether it is among the `most` best; of equals the first."""
    qualities = [
        batch.filter(pc.equal(batch["split"], "train"))["quality"].to_numpy(zero_copy_only=False)
        for batch in read_batches(folder, "kept", ["split", "quality"])
    ]
    quality = np.concatenate(qualities)
    chosen = np.zeros(len(quality), bool)
    chosen[np.argsort(-quality, kind="stable")[:most]] = True
    return chosen
