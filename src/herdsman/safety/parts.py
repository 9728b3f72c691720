"""Which texts teach the guard, which set its thresholds, and which measure it.

The collections hold many rewordings of the same prompts. One of them to learn from and another to measure on would
make the guard look better than it is, so rewordings go together, and those of an XSTest prompt go nowhere.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from herdsman.evaluation.benchmarks import stable_hash
from herdsman.safety.prompts import LabelledPrompt
from herdsman.safety.text import normalised

ALIKE = 0.6  # share of the different words of two texts that both have, from which on one is a rewording of the other


@dataclass(frozen=True)
class Parts:
    """Labelled prompts: of ten groups of rewordings, about eight, one and one.

    Attributes:
        train: to learn from.
        threshold: to set thresholds on.
        test: to measure on.
    """

    train: list[LabelledPrompt]
    threshold: list[LabelledPrompt]
    test: list[LabelledPrompt]

    @property
    def size(self) -> int:
        return len(self.train) + len(self.threshold) + len(self.test)


def divide(prompts: Sequence[LabelledPrompt], kept_out: Sequence[str]) -> Parts:
    """Puts each group of rewordings into a part by a hash of its first prompt's words.

    Args:
        kept_out: texts that must not be learnt from. They and their rewordings are in no part.
    """
    parts = Parts([], [], [])
    group_of = groups([*kept_out, *(prompt.text for prompt in prompts)])[len(kept_out) :]
    for prompt, group in zip(prompts, group_of, strict=True):
        if group >= len(kept_out):
            digit = int(stable_hash(normalised(prompts[group - len(kept_out)].text))[:8], 16) % 10
            part = parts.threshold if digit == 0 else parts.test if digit == 1 else parts.train
            part.append(prompt)
    return parts


def groups(texts: Sequence[str]) -> list[int]:
    """For each text the index of the first text of its group; rewordings of rewordings belong to it too."""
    first = list(range(len(texts)))

    def root(index: int) -> int:
        while first[index] != index:
            first[index] = first[first[index]]
            index = first[index]
        return index

    for one, other in _alike([frozenset(normalised(text).split()) for text in texts]):
        low, high = sorted((root(one), root(other)))
        first[high] = low
    return [root(index) for index in range(len(texts))]


def _alike(word_sets: Sequence[frozenset[str]]) -> Iterator[tuple[int, int]]:
    """All pairs of sets whose intersection is at least `ALIKE` of their union; empty sets are like nothing.

    Two such sets share one of their rarest words: of n words at least ALIKE * n are common, so the n - ALIKE * n + 1
    rarest cannot all be missing on the other side (prefix filtering, Chaudhuri et al. 2006).
    """
    frequency = Counter(word for words in word_sets for word in words)
    holders: dict[str, list[int]] = defaultdict(list)
    for index, words in enumerate(word_sets):
        rarest = sorted(words, key=lambda word: (frequency[word], word))[
            : len(words) - math.ceil(ALIKE * len(words)) + 1
        ]
        for other in {holder for word in rarest for holder in holders[word]}:
            common = len(words & word_sets[other])
            if common >= ALIKE * (len(words) + len(word_sets[other]) - common):
                yield other, index
        for word in rarest:
            holders[word].append(index)
