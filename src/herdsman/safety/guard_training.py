"""Makes a guard: trains the classifier and sets its thresholds for a stated rate of false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import fasttext

from herdsman.errors import InputError
from herdsman.evaluation.benchmarks import stable_hash
from herdsman.fasttext_file import save_fasttext
from herdsman.files import atomic_folder, sha256_file, write_json, write_text
from herdsman.safety.guard import CATEGORIES, LABEL, SAFE, SETTINGS, WEIGHTS, Guard, Thresholds
from herdsman.safety.parts import Parts
from herdsman.safety.text import normalised

TRAINING = {"dim": 16, "epoch": 5, "lr": 0.5, "wordNgrams": 2, "minn": 3, "maxn": 5, "bucket": 50_000}


def train_guard(
    parts: Parts,
    passages: Sequence[str],
    false_positive_rate: float,
    seed: int,
    folder: Path,
    scratch: Path,
) -> Guard:
    """Trains a guard and writes it to `folder`, whole or not at all.

    Args:
        parts: labelled prompts; those of `train` are learnt from, those of `threshold` set the threshold of inputs.
        passages: harmless texts as a model might write them, none of which is learnt from.
        false_positive_rate: share of the harmless prompts of `threshold`, and of the passages, that may score above the
            threshold.
        scratch: folder for the training file.

    Returns:
        The guard as `Guard.load(folder)` reads it.

    Raises:
        InputError: there are no harmless prompts or no passages to set a threshold on.
    """
    lines = [f"{LABEL}{prompt.label} {normalised(prompt.text)}\n" for prompt in parts.train]
    training = scratch / "guard_training.txt"
    write_text(training, "".join(sorted(lines, key=stable_hash)))  # mixed: fastText learns in the order of the file
    with atomic_folder(folder) as beside:
        # One thread: with more, fastText's threads race for the weights and no two runs are the same.
        model = fasttext.train_supervised(str(training), thread=1, seed=seed % 2**31, verbose=0, **TRAINING)
        save_fasttext(model, beside / WEIGHTS)
        scorer = Guard(model, Thresholds(1.0, 1.0))
        asked = [prompt.text for prompt in parts.threshold if prompt.label == SAFE]
        thresholds = {
            "input": threshold_for([scorer.score(text)[0] for text in asked], false_positive_rate),
            "output": threshold_for([scorer.score(text)[0] for text in passages], false_positive_rate),
        }
        settings = {
            "thresholds": thresholds,
            "false_positive_rate": false_positive_rate,
            "categories": CATEGORIES,
            "sha256": sha256_file(beside / WEIGHTS),
        }
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
