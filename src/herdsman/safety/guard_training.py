"""Makes a guard: trains the classifier, sets its thresholds for a stated rate of false alarms, and measures it.

Every text has one of three parts by a hash of its words: of ten, eight to learn from, one to set thresholds on, one to
measure on. So the same text is always in the same part, whatever else is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import fasttext

from herdsman.errors import InputError
from herdsman.evaluation.benchmarks import stable_hash
from herdsman.files import atomic_folder, write_json, write_text
from herdsman.safety.guard import CATEGORIES, LABEL, SAFE, SETTINGS, WEIGHTS, Guard, Thresholds
from herdsman.safety.prompts import LabelledPrompt
from herdsman.safety.text import normalised

Part = Literal["train", "threshold", "test"]
TRAINING = {"dim": 16, "epoch": 5, "lr": 0.5, "wordNgrams": 2, "minn": 3, "maxn": 5, "bucket": 50_000}


def part_of(text: str) -> Part:
    """The part a text belongs to."""
    digit = int(stable_hash(normalised(text))[:8], 16) % 10
    return "threshold" if digit == 0 else "test" if digit == 1 else "train"


def in_part(prompts: Sequence[LabelledPrompt], part: Part) -> list[LabelledPrompt]:
    return [prompt for prompt in prompts if part_of(prompt.text) == part]


def train_guard(
    prompts: Sequence[LabelledPrompt],
    passages: Sequence[str],
    false_positive_rate: float,
    seed: int,
    folder: Path,
    scratch: Path,
) -> Guard:
    """Trains a guard on the prompts of the part `train` and writes it to `folder`, whole or not at all.

    Args:
        prompts: labelled texts of all parts.
        passages: harmless texts as a model might write them, none of which is learnt from.
        false_positive_rate: share of the harmless prompts of the part `threshold`, and of the passages, that may score
            above the threshold.
        scratch: folder for the training file.

    Returns:
        The guard as `Guard.load(folder)` reads it.

    Raises:
        InputError: there are no harmless prompts or no passages to set a threshold on.
    """
    lines = [f"{LABEL}{prompt.label} {normalised(prompt.text)}\n" for prompt in in_part(prompts, "train")]
    training = scratch / "guard_training.txt"
    write_text(training, "".join(sorted(lines, key=stable_hash)))  # mixed: fastText learns in the order of the file
    with atomic_folder(folder) as beside:
        # One thread: with more, fastText's threads race for the weights and no two runs are the same.
        model = fasttext.train_supervised(str(training), thread=1, seed=seed % 2**31, verbose=0, **TRAINING)
        model.save_model(str(beside / WEIGHTS))
        scorer = Guard(model, Thresholds(1.0, 1.0))
        asked = [p.text for p in in_part(prompts, "threshold") if p.label == SAFE]
        thresholds = {
            "input": threshold_for([scorer.score(text)[0] for text in asked], false_positive_rate),
            "output": threshold_for([scorer.score(text)[0] for text in passages], false_positive_rate),
        }
        settings = {"thresholds": thresholds, "false_positive_rate": false_positive_rate, "categories": CATEGORIES}
        write_json(beside / SETTINGS, settings)
    return Guard.load(folder)


def threshold_for(harmless_scores: Sequence[float], false_positive_rate: float) -> float:
    """The lowest of the scores that at most the given share of them exceeds.

    Raises:
        InputError: no scores.
    """
    if not harmless_scores:
        raise InputError("no harmless texts to set the guard's threshold on", do="raise the herd on more documents")
    falling = sorted(harmless_scores, reverse=True)
    return falling[int(false_positive_rate * len(falling))]
