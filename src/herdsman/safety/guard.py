"""A guard on what goes into a model and what comes out of it, with the interface of Llama Guard and the size of a leaf.

A fastText classifier over words, word pairs and parts of words gives each sentence a probability for `safe` and for
each category of harm; a text is as unsafe as its worst sentence. Inputs and outputs have thresholds of their own. It
knows English, and it judges words, not intentions: see the measured rates before relying on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fasttext

from herdsman.errors import InputError
from herdsman.files import read_json, sha256_file
from herdsman.safety.text import pieces
from herdsman.tokens.chat import Message

WEIGHTS, SETTINGS = "guard.bin", "guard.json"
LABEL = "__label__"
NOTICE = "I can't help with that."

SAFE = "safe"
CATEGORIES = {
    "discrimination": "discrimination, exclusion, toxicity, hateful or offensive content",
    "chatbot_harms": "harms of human-chatbot interaction, such as self-harm",
    "information_hazards": "private or confidential information",
    "malicious_uses": "help with illegal or harmful acts",
    "misinformation": "misinformation, and advice that belongs to a professional",
    "harmful_requests": "other harmful requests (HarmBench and requests moved into the past or the future)",
}


@dataclass(frozen=True)
class Verdict:
    """What the guard thinks of a text.

    Attributes:
        safe: whether it may pass.
        score: probability of harm, from 0 to 1.
        category: the likeliest category of harm, one of `CATEGORIES`; empty if the text is safe.
    """

    safe: bool
    score: float
    category: str


@dataclass(frozen=True)
class Thresholds:
    """Scores above which an input and an output are blocked."""

    input: float
    output: float


class Guard:
    """Judges prompts and replies. `Guard.load(folder)` reads one that the safety stage wrote."""

    def __init__(self, model: Any, thresholds: Thresholds):
        self.model, self.thresholds = model, thresholds

    @classmethod
    def load(cls, folder: Path | str) -> Guard:
        """
        Raises:
            InputError: the folder holds no guard, or a damaged one.
        """
        folder = Path(folder)
        try:
            settings = read_json(folder / SETTINGS)
            thresholds = Thresholds(settings["thresholds"]["input"], settings["thresholds"]["output"])
            if sha256_file(folder / WEIGHTS) != settings["sha256"]:  # fastText crashes on damaged files, or never ends
                raise ValueError("the weights are not those that were written")
            model = fasttext.load_model(str(folder / WEIGHTS))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                "no readable guard here", where=folder, do="raise the herd as far as its safety stage"
            ) from error
        return cls(model, thresholds)

    def score(self, text: str) -> tuple[float, str]:
        """Probability of harm of the text's worst sentence, and that sentence's likeliest category."""
        worst, category = 0.0, ""
        for piece in pieces(text):
            labels, probabilities = self.model.predict(piece, k=-1)
            harm = {
                label.removeprefix(LABEL): float(probability)
                for label, probability in zip(labels, probabilities, strict=True)
                if label != LABEL + SAFE
            }
            total = min(sum(harm.values()), 1.0)
            if total > worst:
                worst, category = total, max(harm, key=lambda name: harm[name])
        return worst, category

    def check_input(self, text: str) -> Verdict:
        """Judges what a user asks."""
        return self._verdict(text, self.thresholds.input)

    def check_output(self, prompt: str, reply: str) -> Verdict:
        """Judges a reply.

        Args:
            prompt: what was asked. This guard judges the reply by its own words alone.
        """
        return self._verdict(reply, self.thresholds.output)

    def notice_for_input(self, dialog: Sequence[Message]) -> str | None:
        """What to show in place of an answer if the dialog's last message, the user's, may not pass; else None."""
        return None if self.check_input(dialog[-1].content).safe else NOTICE

    def notice_for_output(self, dialog: Sequence[Message]) -> str | None:
        """What to show in place of the dialog's last message, the assistant's, if it may not pass; else None."""
        asked = dialog[-2].content if len(dialog) > 1 else ""
        return None if self.check_output(asked, dialog[-1].content).safe else NOTICE

    def _verdict(self, text: str, threshold: float) -> Verdict:
        score, category = self.score(text)
        safe = score <= threshold
        return Verdict(safe, score, "" if safe else category)
