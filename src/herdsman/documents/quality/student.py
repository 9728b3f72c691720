"""The students: fastText classifiers that learn a teacher's labels, and how well they learned them.

Labels are whole numbers: grades from 0 to 5 of a score, or the places of classes in a list. Texts are prepared once for
all students of a document.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from herdsman.fasttext_file import save_fasttext
from herdsman.files import atomic_open, atomic_path

HIGHEST_GRADE = 5
MIN_EPOCHS, MAX_EPOCHS, EXAMPLES_READ = 3, 25, 30_000  # few examples are read more often
LEARNING_RATES = (0.5, 0.1)
BEGINNING_CHARS, MIDDLE_CHARS = 1_200, 800  # of a document that the students read
CALIBRATION_BINS = 10
_LABEL = "__label__"
_MARKS = ".,:;!?()=|\"'$%…"
# What separates words and is no mark, and, in scripts without spaces, each character by itself.
_OTHER = bytes(
    32 if code < 128 and not chr(code).isalnum() and chr(code) not in _MARKS else code for code in range(256)
)
_WIDE = re.compile("([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff])")


def prepared(text: str) -> str:
    """One line of lower-case words, numbers and punctuation marks from the beginning and the middle of a text."""
    if len(text) > BEGINNING_CHARS + MIDDLE_CHARS:
        middle = max(len(text) // 2, BEGINNING_CHARS)
        text = f"{text[:BEGINNING_CHARS]} {text[middle : middle + MIDDLE_CHARS]}"
    text = text.lower()
    for mark in _MARKS:
        text = text.replace(mark, f" {mark} ")
    if not text.isascii():
        text = _WIDE.sub(r" \1 ", text)
    return text.encode().translate(_OTHER).decode()


def train(lines: Sequence[str], labels: Sequence[int], path: Path, seed: int) -> bool:
    """Trains a student on prepared lines and saves it; False if there are not two labels, or no words, to learn."""
    if len(set(labels)) < 2:
        return False
    material = path.with_name(path.name + ".txt")
    with atomic_open(material) as file:
        for line, label in zip(lines, labels, strict=True):
            file.write(f"{_LABEL}{label} {line}\n".encode())
    model = _trained(material, max(MIN_EPOCHS, min(MAX_EPOCHS, EXAMPLES_READ // len(lines))), seed)
    material.unlink()
    if model is not None:
        with atomic_path(path) as beside:
            save_fasttext(model, beside)
    return model is not None


def _trained(material: Path, epochs: int, seed: int) -> Any:
    import fasttext

    for min_count in (3, 1):
        for rate in LEARNING_RATES:
            try:
                # One thread: with more, fastText's result depends on their timing.
                model = fasttext.train_supervised(
                    str(material), dim=16, epoch=epochs, lr=rate, wordNgrams=2, minCount=min_count, bucket=100_000,
                    thread=1, seed=seed, verbose=0,
                )  # fmt: skip
            except (RuntimeError, ValueError):  # the loss is no number, or there is no word that is frequent enough
                continue
            if len(model.get_words()) > 1:  # more than the end of a line
                return model
    return None


class Student:
    """A trained classifier."""

    def __init__(self, path: Path):
        import fasttext

        self._model: Any = fasttext.load_model(str(path))

    def scores(self, lines: Sequence[str]) -> NDArray[np.float64]:
        """The expected grade of each prepared line as a share of the highest one, 0 to 1. [lines]"""
        if not lines:
            return np.zeros(0)
        labels, chances = self._model.predict(list(lines), k=-1)
        found = [
            sum(float(chance) * int(label[len(_LABEL) :]) for label, chance in zip(*pair, strict=True))
            for pair in zip(labels, chances, strict=True)
        ]
        return np.clip(np.round(np.array(found) / HIGHEST_GRADE, 4), 0, 1)

    def classes(self, lines: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The likeliest label of each prepared line, and its probability. [lines], [lines]"""
        if not lines:
            return np.zeros(0, np.int64), np.zeros(0)
        labels, chances = self._model.predict(list(lines), k=1)
        numbers = np.array([int(label[0][len(_LABEL) :]) for label in labels], np.int64)
        return numbers, np.array([min(float(chance[0]), 1.0) for chance in chances])


def measure_scores(scores: NDArray[np.float64], grades: NDArray[np.float64]) -> dict[str, Any]:
    """How scores from 0 to 1 agree with the teacher's grades from 0 to 1 on documents the student has not seen.

    Returns:
        "documents"; "spearman" with the grades; for grades of 0.6 (3 of 5) and above against those below: "auc",
        "accuracy" and "macro_f1" of scores from 0.5 on; "calibration": rows of documents, mean score, mean grade. What
        cannot be told, for there is one grade only, is None.
    """
    truth, said = (grades >= 0.6).astype(np.int64), (scores >= 0.5).astype(np.int64)
    return {
        "documents": len(scores),
        "spearman": spearman(scores, grades),
        "auc": _rounded(area_under_curve(scores, truth)),
        "accuracy": _rounded(float(np.mean(truth == said)) if len(truth) else None),
        "macro_f1": _rounded(macro_f1(truth, said)),
        "calibration": _calibration(scores, grades),
    }


def measure_classes(
    said: NDArray[np.int64], sure: NDArray[np.float64], truth: NDArray[np.int64], classes: Sequence[str]
) -> dict[str, Any]:
    """How predicted classes agree with the teacher's on documents the student has not seen.

    Returns:
        "documents", "accuracy", "commonest" (the accuracy of always saying the commonest class), "macro_f1",
        "calibration": rows of documents, mean probability, accuracy; "classes": for each, documents, precision, recall.
    """
    right = (said == truth).astype(np.float64)
    rows = {}
    for number, name in enumerate(classes):
        here, found = truth == number, said == number
        if here.any() or found.any():
            rows[name] = {
                "documents": int(here.sum()),
                "precision": _rounded(float(right[found].mean()) if found.any() else None),
                "recall": _rounded(float(right[here].mean()) if here.any() else None),
            }
    return {
        "documents": len(truth),
        "accuracy": _rounded(float(right.mean()) if len(truth) else None),
        "commonest": _rounded(float(np.bincount(truth).max() / len(truth)) if len(truth) else None),
        "macro_f1": _rounded(macro_f1(truth, said)),
        "calibration": _calibration(sure, right),
        "classes": rows,
    }


def spearman(scores: NDArray[np.float64], grades: NDArray[np.float64]) -> float | None:
    """Rank correlation; None if either has one value only."""
    left, right = _ranks(scores), _ranks(grades)
    if len(left) < 2 or left.std() == 0 or right.std() == 0:
        return None
    return _rounded(float(np.corrcoef(left, right)[0, 1]))


def area_under_curve(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> float | None:
    """Probability that a positive scores above a negative, ties counted half (Mann and Whitney)."""
    positives, negatives = int(truth.sum()), int(len(truth) - truth.sum())
    if not positives or not negatives:
        return None
    return float((_ranks(scores)[truth == 1].sum() - positives * (positives - 1) / 2) / (positives * negatives))


def macro_f1(truth: NDArray[np.int64], said: NDArray[np.int64]) -> float | None:
    """Mean over the classes that occur of the harmonic mean of precision and recall."""
    classes = np.unique(truth)
    if not len(classes):
        return None
    return float(
        np.mean([2 * np.sum((truth == c) & (said == c)) / (np.sum(truth == c) + np.sum(said == c)) for c in classes])
    )


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0, equal values sharing their mean rank. [values]"""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts + 1) / 2)[inverse]
    return ranks


def _calibration(scores: NDArray[np.float64], truth: NDArray[np.float64]) -> list[list[float]]:
    bins = np.minimum((scores * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    return [
        [
            int(np.sum(bins == number)),
            round(float(scores[bins == number].mean()), 3),
            round(float(truth[bins == number].mean()), 3),
        ]
        for number in np.unique(bins).tolist()
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
