"""The forecast of a herd's benchmarks, from the models of its scaling-law sweep, made before the herd is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from herdsman.errors import InputError, WorkspaceError
from herdsman.evaluation.options import EvaluationOptions
from herdsman.files import read_json, read_jsonl, write_json
from herdsman.model.count import model_flops
from herdsman.model.options import ModelOptions
from herdsman.progress import Progress
from herdsman.scaling.forecast import FORECAST, LEAST_POINTS, make_record
from herdsman.scaling.measure import Yardstick
from herdsman.scaling.runs import STAGE
from herdsman.scaling.scores import Score, score_of
from herdsman.scaling.sweep import FOLDER, RUNS
from herdsman.training.options import PretrainOptions
from herdsman.workspace import MANIFEST


def forecast_herd(
    root: Path,
    model: ModelOptions,
    pretrain: PretrainOptions,
    evaluation: EvaluationOptions,
    device: torch.device | str,
    progress: Progress,
) -> dict[str, Any]:
    """Measures the sweep's models on the recipe's multiple-choice benchmarks and writes `forecast.json`.

    What was forecast before the herd was trained stays as it is afterwards; a forecast made then says so.

    Args:
        root: the workspace, with a finished sweep.

    Raises:
        WorkspaceError: there is no sweep.
        InputError: it has too few budgets, or the recipe names no multiple-choice benchmark.
    """
    path, trained = root / FORECAST, (root / STAGE / MANIFEST).exists()
    if trained and path.exists():
        known: dict[str, Any] = read_json(path)
        if known["before_run"]:
            return known
    scores = sweep_scores(root, evaluation, device, progress)
    vocab_size = read_json(root / "tokens" / "sources.json")["vocab_size"]
    # Counted as the sweep's runs are: causal attention over half the sequence.
    flops = sum(
        model_flops(model, vocab_size, phase.sequence_length / 2) * phase.steps * phase.batch_tokens
        for phase in pretrain.phases
    )
    record = make_record(scores, flops, before_run=not trained)
    write_json(path, record)
    return record


def sweep_scores(
    root: Path, evaluation: EvaluationOptions, device: torch.device | str, progress: Progress
) -> list[Score]:
    """A point for each benchmark and model of the sweep; optimal is the model of the lowest loss at its budget."""
    runs = root / FOLDER / RUNS
    if not runs.exists():
        raise WorkspaceError("there is no finished sweep here", where=root, do="run herdsman scale first")
    rows = read_json(runs)
    lowest = {row["budget"]: min(r["loss"] for r in rows if r["budget"] == row["budget"]) for row in rows}
    if len(lowest) < LEAST_POINTS:
        raise InputError(
            f"the sweep has {len(lowest)} budgets, a forecast needs {LEAST_POINTS}",
            where=runs,
            do="add to scaling.budgets and run herdsman scale again",
        )
    yardstick = Yardstick.of([], root / "tokenizer", evaluation, progress)
    stages = [root / FOLDER / "runs" / row["name"] / STAGE for row in rows]
    places = yardstick.measure_all(stages, root / FOLDER / "measured", device, progress)
    return [
        score_of(
            name, row["name"], row["flops"], read_jsonl(place / f"{name}.jsonl"), row["loss"] == lowest[row["budget"]]
        )
        for name in yardstick.questions
        for row, place in zip(rows, places, strict=True)
    ]
