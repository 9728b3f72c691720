"""The `release` stage: the model as others load it, checked, with its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from herdsman.documents.store import read_documents
from herdsman.files import write_text
from herdsman.release.card import model_card
from herdsman.release.checks import check_export
from herdsman.release.huggingface import export
from herdsman.release.journey import Journey
from herdsman.release.markdown import as_markdown
from herdsman.release.options import ReleaseOptions
from herdsman.workspace import Work

HUGGINGFACE, CARD = "huggingface", "README.md"
CHECKED_DOCUMENTS = 50


def publish(options: ReleaseOptions, work: Work, recipe: Mapping[str, Any]) -> None:
    """Writes `huggingface/`, a folder to upload or to load with `transformers`, and `summary.json`.

    The card in that folder holds what the run's inputs decide and nothing measured in seconds, so two runs give the
    same bytes. `logs/README.md` is the same card with the measured time, energy and carbon of this run.

    Raises:
        InputError: an input folder holds no model, tokenizer or documents.
        RuntimeError: the export differs from the model, which is a defect.
    """
    journey = replace(Journey.read(work.out.parent), recipe=recipe, options=options)
    model, tokenizer = work.inputs["posttrain"] / "model", work.inputs["tokenizer"]
    folder = work.out / HUGGINGFACE
    with work.progress.task("release", total=3, unit="parts") as task:
        export(model, tokenizer, folder)
        task.advance()
        held_out = islice(read_documents(work.inputs["documents"], "held_out", ["text"]), CHECKED_DOCUMENTS)
        checks = check_export(folder, model, tokenizer, (row["text"] for row in held_out))
        task.advance()
        write_text(folder / CARD, as_markdown(model_card(journey), journey))
        write_text(work.logs / CARD, as_markdown(model_card(journey, measured=True), journey))
        task.advance()
    files: list[dict[str, Any]] = [
        {"path": path.relative_to(work.out).as_posix(), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    work.counts |= {"files": len(files), "bytes": sum(entry["bytes"] for entry in files)}
    work.summarise({"name": journey.name, "licence": options.licence, "files": files, "checks": checks})
