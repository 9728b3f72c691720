"""Quality of documents: a rubric labels the clear cases, a fast classifier learns from them and scores every document.

Llama 3 lets Llama 2 judge documents against written requirements and distils its judgements into DistilRoBERTa and
fastText (section 3.1.1). Here a rubric of measurable requirements stands in for the large
judge; the student is fastText.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from herdsman.documents.blocks import ITEM, PROSE, PROSE_CHARS
from herdsman.fasttext_file import save_fasttext
from herdsman.files import atomic_open, atomic_path

LABELLED_SHARE = 0.2  # at either end of the rubric's range: the clear cases
MIN_LABELLED = 50  # at either end; with fewer there is nothing to learn, and the rubric itself is the score
MAX_LABELLED = 50_000
MIN_EPOCHS, MAX_EPOCHS, EXAMPLES_READ = 3, 25, 50_000  # few examples are read more often
LEARNING_RATES = (0.5, 0.1)
READ_CHARS = 8_000  # of a document that the classifier reads
BEST, WORST = "__label__best", "__label__worst"
_TOKEN = re.compile(r"[^\W\d]+|\d+|[^\w\s]")
_SENTENCE_ENDS = (".", "?", "!", ":", "。", "！", "？", "।", '."', ".)", ".”")


@dataclass(frozen=True)
class Label:
    """A document that the rubric is sure about."""

    index: int
    best: bool


def rubric(text: str, kinds: str, features: dict[str, float]) -> float:
    """How well a document meets the requirements, 0 to 1: the mean of seven grades.

    Running text rather than fragments; whole sentences; paragraphs of some length; few links; varied words; enough to
    read; most of the page being content. Code counts for the document as long as text explains it.

    Args:
        kinds: the kind of each line of `text`.
        features: those of `extract`.
    """
    chars = max(features["chars"], 1.0)
    beside_code = max(chars - features["code_chars"], 1.0)
    lines = zip(text.split("\n"), kinds, strict=True)
    prose = [line for line, kind in lines if kind in (PROSE, ITEM) and len(line) >= PROSE_CHARS]
    sentences = sum(line.rstrip().endswith(_SENTENCE_ENDS) for line in prose) / max(len(prose), 1)
    words = text[:READ_CHARS].lower().split()[:500]
    grades = (
        _grade(features["prose_chars"] / beside_code, 0.2, 0.8) * _grade(beside_code / chars, 0.05, 0.4),
        _grade(sentences, 0.3, 0.9),
        _grade(features["prose_chars"] / max(features["paragraphs"], 1), 60, 250),
        _grade(-features["link_chars"] / beside_code, -0.4, -0.05),
        _grade(len(set(words)) / max(len(words), 1), 0.2, 0.5),
        _grade(features["prose_chars"], 200, 3000),
        _grade(features["kept_share"], 0.1, 0.6),
    )
    return round(sum(grades) / len(grades), 4)


def _grade(value: float, none: float, full: float) -> float:
    return min(max((value - none) / (full - none), 0.0), 1.0)


def choose_labelled(scores: NDArray[np.float64]) -> list[Label]:
    """The documents at both ends of the rubric's range, in stored order; none if they are too few to learn from."""
    count = min(int(len(scores) * LABELLED_SHARE), MAX_LABELLED)
    if count < MIN_LABELLED:
        return []
    order = np.argsort(scores, kind="stable")
    labels = {int(index): False for index in order[:count]} | {int(index): True for index in order[-count:]}
    return [Label(index, labels[index]) for index in sorted(labels)]


def train_classifier(examples: Iterable[tuple[str, bool]], path: Path, seed: int) -> None:
    """Trains the student on texts and whether they are among the best, and saves it as a fastText model."""
    material, count = path.with_name(path.name + ".txt"), 0
    with atomic_open(material) as file:
        for text, best in examples:
            file.write(f"{BEST if best else WORST} {prepared(text)}\n".encode())
            count += 1
    model = _trained(material, max(MIN_EPOCHS, min(MAX_EPOCHS, EXAMPLES_READ // max(count, 1))), seed)
    with atomic_path(path) as beside:
        save_fasttext(model, beside)
    material.unlink()


def _trained(material: Path, epochs: int, seed: int) -> Any:
    import fasttext

    for rate in LEARNING_RATES:
        try:
            # One thread: with more, fastText's result depends on their timing.
            return fasttext.train_supervised(
                str(material), dim=16, epoch=epochs, lr=rate, wordNgrams=2, minCount=3, bucket=100_000, thread=1,
                seed=seed, verbose=0,
            )  # fmt: skip
        except RuntimeError:  # the loss is no number: the rate is too high for this text
            if rate == LEARNING_RATES[-1]:
                raise
    return None


class Classifier:
    """The trained student."""

    def __init__(self, path: Path):
        import fasttext

        self._model: Any = fasttext.load_model(str(path))

    def score(self, text: str) -> float:
        """Probability that the document is among the best, 0 to 1."""
        labels, probabilities = self._model.predict(prepared(text), k=2)
        chances = dict(zip(labels, probabilities, strict=True))
        return round(min(float(chances.get(BEST, 0.0)), 1.0), 4)


def prepared(text: str) -> str:
    """One line of lower-case words, numbers and punctuation marks from the beginning of a text."""
    return " ".join(_TOKEN.findall(text[:READ_CHARS].lower()))
