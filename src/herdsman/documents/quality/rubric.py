"""Quality of documents by a rubric of measurable requirements, and the clear cases that a classifier learns from.

Llama 3 lets Llama 2 judge documents against written requirements and distils its judgements into DistilRoBERTa and
fastText (section 3.1.1). Where no judge is at hand (see `judge`), the rubric stands in for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from herdsman.documents.extraction.blocks import ITEM, PROSE, PROSE_CHARS

LABELLED_SHARE = 0.2  # at either end of the rubric's range: the clear cases
MIN_LABELLED = 50  # at either end; with fewer there is nothing to learn, and the rubric itself is the score
MAX_LABELLED = 10_000  # at either end, of all languages together
READ_CHARS = 8_000  # of a document in which words are counted
_SENTENCE_ENDS = (".", "?", "!", ":", "。", "！", "？", "।", '."', ".)", ".”")


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


def choose_ends(grades: NDArray[np.float64], languages: NDArray[np.str_]) -> list[tuple[int, bool]]:
    """Places of documents at the lower and upper end of the rubric's range within their language, and whether it is
    the upper one, in stored order; languages with few documents share a range. None if they are too few to learn from.

    Args:
        grades, languages: of each document. [documents]
    """
    names, numbers, counts = np.unique(languages, return_inverse=True, return_counts=True)
    small = counts * LABELLED_SHARE < MIN_LABELLED
    groups = np.where(small, -1, np.arange(len(names)))[numbers]
    present = np.unique(groups)
    most = max(MIN_LABELLED, MAX_LABELLED // max(len(present), 1))
    ends: dict[int, bool] = {}
    for group in present.tolist():
        places = np.flatnonzero(groups == group)
        places = places[np.argsort(grades[places], kind="stable")]
        count = int(len(places) * LABELLED_SHARE)
        if count >= MIN_LABELLED:
            # Spread over the whole end: its outermost documents alone are too odd to learn from.
            spread = np.linspace(0, count - 1, min(count, most)).astype(np.int64)
            ends |= {int(place): False for place in places[spread]}
            ends |= {int(place): True for place in places[-count:][spread]}
    return sorted(ends.items())
