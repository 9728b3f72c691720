"""The search for a better mix: small runs of several mixes, a law fitted to them, a proposal, and its check.

As published (paper, section 3.1.2): several small models are trained on a mix, from them the performance of a large one
on that mix is predicted, this is repeated for different mixes to choose a candidate, and a larger model is trained on
it. What is varied are the recipe's own dials, the shares of the categories and the weights of those knowledge topics
that have one, so every candidate is a mix that the recipe can say, held to the data that there is.

    mixes/runs/NAME/      one training each
    mixes/with/           the documents with each mix
    mixes/measured/       held-out text and benchmarks, by run
    mixes/result.json     candidates, law, proposal and check
    mixes/mix.toml        the proposal, for the recipe
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from herdsman.documents.mix import make_mix
from herdsman.documents.mix_options import MixOptions
from herdsman.errors import InputError
from herdsman.evaluation.options import EvaluationOptions
from herdsman.files import read_json, write_json, write_text
from herdsman.progress import Progress
from herdsman.scaling.compare import changes, weighted_change
from herdsman.scaling.dataset import MIX, with_mix
from herdsman.scaling.isoflop import batch_of
from herdsman.scaling.law import LLAMA3, PowerLaw
from herdsman.scaling.measure import Yardstick, losses_by_category, read_measured
from herdsman.scaling.mix_law import MixLaw, MixPoint
from herdsman.scaling.runs import STAGE, Run, Train, run_all
from herdsman.scaling.sweep import FOLDER, INPUTS, LAW, Sweep

LEDGER = "sources.json"
MIXES, RESULT, KEYS = "mixes", "result.json", "mix.toml"
BASE, PROPOSAL = "base", "proposal"
DRAWS, NARROWINGS = 300, 8
SAME = 0.01  # shares that differ by less are the same mix

Sizes = dict[tuple[str, str, str], tuple[int, int]]


@dataclass(frozen=True)
class Candidate:
    """A mix that the recipe can say, and what comes of it.

    Attributes:
        shares: target shares of the categories.
        topic_weights: of the topics that have one.
        streams: share of each stream, held to what there is.
        parts: what the law knows of it: the share of each category, which sum to 1, and of each topic that can be
            turned.
    """

    name: str
    shares: dict[str, float]
    topic_weights: dict[str, float]
    streams: dict[str, float] = field(repr=False)
    parts: dict[str, float]


class Dials:
    """What can be turned: makes candidates from factors by which the recipe's shares and weights are multiplied."""

    def __init__(self, mix: MixOptions, shares: Mapping[str, float] | None, streams: Mapping[str, Mapping[str, int]]):
        """
        Args:
            shares: by category, in place of the mix's own.
            streams: documents and bytes of each stream.

        Raises:
            InputError: there is nothing to mix.
        """
        self.sizes: Sizes = {}
        for name, entry in streams.items():
            category, *topic, tier = name.split(".")
            self.sizes[category, "".join(topic), tier] = (entry["documents"], entry["bytes"])
        self.mix = mix.model_copy(update={"shares": dict(shares or mix.shares)})
        self.weights = {topic: weight for topic, weight in mix.topic_weights.items() if weight > 0}
        found = make_mix(self.sizes, self.mix)
        # What the data cannot give is no part of the mix; the shares that it has are where the search begins.
        given = {row["category"]: row["given"] for row in found["ledger"] if row["given"] > 0}
        there = {topic for _, topic, _ in self.sizes}
        self.names = [*given, *(topic for topic in self.weights if topic in there)]
        if len(self.names) < 2:
            raise InputError(
                f"all there is to mix is {self.names[0]}",
                where="documents",
                do="gather pages of other kinds, or give topics a weight in documents.mix.topic_weights",
            )
        self.base = self._candidate(BASE, given, dict(mix.topic_weights), found["pretrain"])

    def turned(self, name: str, factors: Mapping[str, float]) -> Candidate:
        shares = {category: share * factors.get(category, 1.0) for category, share in self.base.shares.items()}
        shares = {category: share / sum(shares.values()) for category, share in shares.items()}
        weights = {topic: weight * factors.get(topic, 1.0) for topic, weight in self.base.topic_weights.items()}
        options = self.mix.model_copy(update={"shares": shares, "topic_weights": weights})
        return self._candidate(name, shares, weights, make_mix(self.sizes, options)["pretrain"])

    def design(self, factor: float) -> list[Candidate]:
        """The recipe's mix, and each dial turned up and down, as far as that makes another mix."""
        found = [self.base]
        for name, more in product(self.names, (True, False)):
            turned = self.turned(f"{'more' if more else 'less'} {name}", {name: factor if more else 1 / factor})
            if not any(_distance(turned, candidate) < SAME for candidate in found):
                found.append(turned)
        return found

    def best(
        self, name: str, law: MixLaw, tried: Sequence[Candidate], weights: Mapping[str, float], flops: float, seed: int
    ) -> Candidate:
        """The candidate of the lowest predicted weighted loss, no part of which goes beyond what was tried.

        Candidates are drawn at random, first between the dials' ends, then ever closer around the best.
        """
        shares = np.array([_vector(candidate, law.parts) for candidate in tried])
        low, high = shares.min(0) - 1e-6, shares.max(0) + 1e-6
        draw = np.random.default_rng(seed)
        logs = [np.log(self._factors(candidate)) for candidate in tried]
        reach, centre, best = np.abs(logs).max(), np.zeros(len(self.names)), self.base
        for narrowing in range(NARROWINGS):
            rows = centre + draw.uniform(-reach, reach, (DRAWS, len(self.names))) / 2**narrowing
            turned = [self.turned(name, dict(zip(self.names, row, strict=True))) for row in np.exp(rows).tolist()]
            found = [best, *turned]
            parts = np.array([_vector(candidate, law.parts) for candidate in found])
            predicted = law.weighted(parts, weights, flops)
            inside = ((parts >= low) & (parts <= high)).all(1)
            best = found[int(np.where(inside, predicted, np.inf).argmin())]
            centre = np.log(self._factors(best))
        return replace(best, name=name)

    def _candidate(
        self, name: str, shares: dict[str, float], weights: dict[str, float], streams: dict[str, float]
    ) -> Candidate:
        parts = dict.fromkeys(self.names, 0.0)
        for stream, share in streams.items():
            for part in stream.split(".")[:-1]:
                if part in parts:
                    parts[part] += share
        return Candidate(name, shares, weights, streams, parts)

    def _factors(self, candidate: Candidate) -> list[float]:
        base = {**self.base.topic_weights, **self.base.shares}
        return [{**candidate.topic_weights, **candidate.shares}[name] / base[name] for name in self.names]


def search_mix(
    sweep: Sweep,
    mix: MixOptions,
    evaluation: EvaluationOptions,
    train: Train,
    device: torch.device | str,
    processes: int,
    progress: Progress,
) -> dict[str, Any]:
    """Runs what is missing of the search and returns its result, which it also writes to `result.json`.

    Args:
        sweep: the recipe's, whose family of models is trained; where it is done, its law tells their sizes.
        train: trains one model, see `runs`.
        processes: trainings at the same time on this machine.

    Raises:
        InputError: there is nothing to mix, or no held-out documents.
    """
    folder, options, family = sweep.root / FOLDER / MIXES, sweep.options.mix, sweep.family
    inputs = {stage: sweep.root / stage for stage in INPUTS}
    first = sweep.pretrain.phases[0]
    dials = Dials(mix, first.shares, read_json(inputs["tokens"] / LEDGER)["streams"])
    small = sorted(options.flops or sorted(sweep.options.budgets)[:2])
    large = options.check_flops or max(sweep.options.budgets)
    target = family.flops_a_token(sweep.model) * sum(phase.tokens for phase in sweep.pretrain.phases)
    law_file = sweep.root / FOLDER / LAW
    law = read_json(law_file)["tokens"] if law_file.exists() else None
    optimal = PowerLaw(law["coefficient"], law["exponent"]) if law else LLAMA3
    yardstick = Yardstick.of([inputs["documents"]], inputs["tokenizer"], evaluation, progress)
    # Shares of the schedule would overrule those of the mixes.
    unshared = sweep.pretrain.model_copy(update={"phases": [first.model_copy(update={"shares": None})]})
    sweep = replace(sweep, pretrain=unshared)

    def run(candidate: Candidate, budget: float, number: int = 0) -> Run:
        tokens = optimal(budget) * (1.0 if law else sweep.options.expected_tokens)
        trial = family.trial(budget, tokens, batch_of(budget, first.sequence_length, sweep.options))
        documents = with_mix(inputs["documents"], folder / "with", "pretrain", candidate.streams)
        found = replace(sweep.run(trial), inputs={**inputs, "documents": documents}, seed=sweep.seed + number)
        return replace(found, name=f"{candidate.name}-{found.fingerprint[:8]}".replace(" ", "-"))

    def measured(runs: Sequence[Run], label: str) -> list[Path]:
        progress.line(f"{label}: {len(runs)} runs, {sum(run.flops for run in runs):.3g} FLOPs, {processes} at once")
        run_all(partial(list, runs), folder / "runs", train, processes, progress, label)
        stages = [folder / "runs" / one.name / STAGE for one in runs]
        return yardstick.measure_all(stages, folder / "measured", device, progress)

    candidates = dials.design(options.factor)
    weights: Mapping[str, float] = options.weights or {}
    for number in range(1, options.rounds + 1):
        wanted = list(product(candidates, small, range(options.seeds)))
        runs = [run(*which) for which in wanted]
        points = [
            MixPoint(candidate.parts, one.flops, losses_by_category(read_measured(place)))
            for (candidate, _, _), one, place in zip(
                wanted, runs, measured(runs, f"mixes, round {number}"), strict=True
            )
        ]
        weights = weights or dict.fromkeys(points[0].losses, 1.0)
        if not sum(weights.get(category, 0.0) for category in points[0].losses):
            raise InputError(
                f"no held-out document is of {', '.join(weights)}",
                where="scaling.mix.weights",
                do=f"give a weight to {' or '.join(points[0].losses)}",
            )
        fitted = MixLaw.fit(points, seed=sweep.seed)
        proposal = dials.best(f"{PROPOSAL} {number}", fitted, candidates, weights, target, sweep.seed)
        # One that was tried already has its runs.
        proposal = next((one for one in candidates if _distance(proposal, one) < SAME), proposal)
        if number < options.rounds and proposal not in candidates:
            candidates.append(proposal)
    larger = [[run(one, large, n) for n in range(options.check_seeds)] for one in (dials.base, proposal)]
    flat = measured([one for runs in larger for one in runs], "check")
    by_mix = [flat[: options.check_seeds], flat[options.check_seeds :]]
    change = weighted_change(by_mix, weights)
    result = {
        "weights": dict(weights), "small_flops": small, "check_flops": larger[0][0].flops, "target_flops": target,
        "runs": [{"mix": which[0].name, **asdict(point)} for which, point in zip(wanted, points, strict=True)],
        "base": _told(dials.base, fitted, larger[0][0].flops), "proposal": _told(proposal, fitted, larger[0][0].flops),
        "predicted_change": asdict(fitted.change(dials.base.parts, proposal.parts, weights, larger[0][0].flops)),
        "measured_change": asdict(change), "better": change.high < 0,
        "changes": changes(by_mix, list(yardstick.questions)),
        "topics": read_json(inputs["documents"] / MIX).get("topic_ledger", []),
    }  # fmt: skip
    write_json(folder / RESULT, result)
    write_text(folder / KEYS, recipe_keys(proposal))
    return result


def recipe_keys(candidate: Candidate) -> str:
    """The candidate as keys of a recipe."""

    def table(values: Mapping[str, float], digits: int) -> str:
        return "{ " + ", ".join(f'"{name}" = {round(value, digits)}' for name, value in values.items()) + " }"

    shares = {name: round(share, 3) for name, share in candidate.shares.items()}
    largest = max(shares, key=lambda name: shares[name])
    shares[largest] += 1 - sum(shares.values())
    keys = f"[documents.mix]\nshares = {table(shares, 3)}\n"
    return keys + (f"topic_weights = {table(candidate.topic_weights, 3)}\n" if candidate.topic_weights else "")


def _vector(candidate: Candidate, parts: Sequence[str]) -> list[float]:
    return [candidate.parts[part] for part in parts]


def _distance(one: Candidate, other: Candidate) -> float:
    return max(abs(share - other.parts[part]) for part, share in one.parts.items())


def _told(candidate: Candidate, law: MixLaw, flops: float) -> dict[str, Any]:
    predicted = {name: asdict(loss) for name, loss in law.predict(candidate.parts, flops).items()}
    told = {"shares": candidate.shares, "topic_weights": candidate.topic_weights, "parts": candidate.parts}
    return told | {"predicted_losses": predicted}
