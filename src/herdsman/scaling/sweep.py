"""An IsoFLOP sweep: its grid on a herd's data, its results, and the law they give.

    WORKSPACE/scaling/runs/NAME/    one training each (runs.py)
    WORKSPACE/scaling/runs.json     what each was and what it reached
    WORKSPACE/scaling/law.json      curves, law and check

What is wanted follows from the recipe and from what is done, so every process and machine comes to the same list.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from herdsman.errors import InputError
from herdsman.files import read_json, write_json
from herdsman.model.options import ModelOptions
from herdsman.scaling.curve import Curve, Point, isoflop_curve
from herdsman.scaling.isoflop import Family, Trial, grid, next_trial, schedule_of
from herdsman.scaling.law import Fit, fit_isoflop
from herdsman.scaling.options import ScalingOptions
from herdsman.scaling.runs import STAGE, Run
from herdsman.training.options import PretrainOptions
from herdsman.workspace import MANIFEST

FOLDER, RUNS, LAW = "scaling", "runs.json", "law.json"
INPUTS = ("documents", "tokenizer", "tokens")


@dataclass(frozen=True)
class Sweep:
    """The runs of a recipe's sweep.

    Attributes:
        root: the workspace, whose data stages are done.
        model, pretrain: of the recipe, which small runs are made after.
    """

    root: Path
    options: ScalingOptions
    model: ModelOptions
    pretrain: PretrainOptions
    seed: int

    @property
    def folder(self) -> Path:
        """Of the runs."""
        return self.root / FOLDER / "runs"

    @cached_property
    def family(self) -> Family:
        rows = read_json(self.root / "tokenizer" / MANIFEST)["counts"]["rows"]
        return Family(self.model, rows, self.pretrain.phases[0].sequence_length)

    @property
    def budgets(self) -> list[float]:
        check = self.options.check_budget
        return [*self.options.budgets, *([check] if check else [])]

    def runs(self) -> list[Run]:
        """All runs that are wanted by now, small budgets first."""
        return [self.run(trial) for budget in self.budgets for trial in self.trials(budget)]

    def run(self, trial: Trial) -> Run:
        """Its name says what shapes it, so what was run under other options stays, and is found again."""
        model, inputs = trial.model, {stage: self.root / stage for stage in INPUTS}
        schedule = schedule_of(trial, self.pretrain, self.family.base_parameters)
        run = Run("", model, schedule, inputs, self.seed, trial.flops)
        name = f"{trial.budget:.3g}-{model.layers}x{model.dim}-{run.fingerprint[:8]}".replace("+", "")
        return replace(run, name=name)

    def trials(self, budget: float) -> list[Trial]:
        """A budget's trials, by tokens: the grid, and as long as the minimum of what is done lies outside, one more."""
        family = self.family
        trials = grid(budget, family, self.options)
        while len(trials) < self.options.most_sizes:
            points = [self.point(trial) for trial in trials]
            known = [point for point in points if point]
            side = isoflop_curve(known).side if len(known) == len(points) else 0
            more = next_trial(trials, side, family, self.options) if side else None
            if more is None:
                break
            trials = sorted([*trials, more], key=lambda trial: trial.tokens)
        return trials

    def point(self, trial: Trial) -> Point | None:
        """What a trial has reached; None while it is not done."""
        run = self.run(trial)
        if not run.done(self.folder):
            return None
        loss = read_json(self.folder / run.name / STAGE / MANIFEST)["metrics"]["validation_loss"]["average"]
        return Point(trial.flops, trial.parameters, trial.tokens, loss)

    def points(self, budgets: Sequence[float]) -> list[Point]:
        """
        Raises:
            InputError: a run is not done.
        """
        found = [self.point(trial) for budget in budgets for trial in self.trials(budget)]
        if None in found:
            raise InputError("the sweep is not done", where=self.folder, do="run herdsman scale again")
        return [point for point in found if point]

    def unique_tokens(self) -> int:
        """Training tokens that the herd's documents have."""
        return int(read_json(self.root / "tokens" / MANIFEST)["counts"]["tokens"])

    def write(self) -> tuple[Fit, dict[str, Any]]:
        """Fits the law to the runs and writes `runs.json` and `law.json`; returns the law and what the latter says.

        Raises:
            InputError: as `fit_isoflop`.
        """
        held_out = read_json(self.root / "tokenizer" / MANIFEST)["metrics"]["held_out"]
        bits = 1 / math.log(2) / held_out["bytes_per_token"]
        rows = []
        for budget in self.budgets:
            for trial, point in zip(self.trials(budget), self.points([budget]), strict=True):
                row = {"name": self.run(trial).name, "budget": budget, **asdict(point)}
                rows.append(row | {"bits_per_byte": point.loss * bits, "model": trial.model.model_dump()})
        write_json(self.root / FOLDER / RUNS, rows)
        fit = fit_isoflop(self.points(self.options.budgets))
        found = fit.as_json() | {"bits_per_nat": bits, "unique_tokens": self.unique_tokens(), "check": None}
        if self.options.check_budget:
            found["check"] = check(fit, isoflop_curve(self.points([self.options.check_budget])))
        write_json(self.root / FOLDER / LAW, found)
        return fit, found


def check(fit: Fit, curve: Curve) -> dict[str, Any]:
    """What the law says of a budget that it was not fitted to, beside what the runs there gave."""
    parameters = fit.parameters(curve.flops)
    return {
        "curve": curve.as_json(),
        "flops": curve.flops,
        "foretold_tokens": asdict(fit.tokens(curve.flops)),
        "foretold_parameters": asdict(parameters),
        "foretold_loss": asdict(fit.loss(curve.flops)),
        "loss_error": fit.loss(curve.flops).value / curve.lowest_loss - 1,
        # What it would have cost to train the size that the law says: a valley is flat, so little.
        "loss_at_foretold_tokens": curve(fit.tokens(curve.flops).value),
    }
