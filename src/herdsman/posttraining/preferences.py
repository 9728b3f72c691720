"""Preferences: responses to a prompt ranked by what was checked about them, with how clear each preference is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from herdsman.synthesis.prompt import Prompt
from herdsman.synthesis.sample import Check, content_id, passed
from herdsman.synthesis.verify import similarity
from herdsman.tokens.chat import Message

Level = Literal["significantly better", "better", "slightly better", "marginally better"]
CLEAR_LEVELS: tuple[Level, ...] = ("significantly better", "better")
HELD_OUT_PARTS = 10


@dataclass(frozen=True)
class Response:
    """A sampled answer: its text, whether it ended its turn, its checks, and the number of its random draws."""

    text: str
    ended: bool
    checks: tuple[Check, ...]
    row: int

    @property
    def passed(self) -> bool:
        return passed(self.checks)

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> Response:
        return Response(row["text"], row["ended"], tuple(Check(**check) for check in row["checks"]), row["row"])


@dataclass(frozen=True)
class Preference:
    """Two or three responses to a prompt, best first: edited > chosen > rejected (paper, section 4.1.2).

    Attributes:
        level: how much better the best is than the worst.
    """

    messages: tuple[Message, ...]
    source: str
    family: str
    responses: tuple[str, ...]
    level: Level

    @property
    def clear(self) -> bool:
        """True if significantly better or better: only these are trained on (paper, section 4.2.1)."""
        return self.level in CLEAR_LEVELS

    @property
    def id(self) -> str:
        return content_id([[[m.role, m.content] for m in self.messages], self.responses])

    @property
    def held_out(self) -> bool:
        """True for one prompt in ten: never trained on, so that the reward model can be measured on it."""
        return int(content_id([[m.role, m.content] for m in self.messages])[:8], 16) % HELD_OUT_PARTS == 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"id": self.id, "held_out": self.held_out}

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> Preference:
        messages = tuple(Message.from_json(message) for message in row["messages"])
        return Preference(messages, row["source"], row["family"], tuple(row["responses"]), row["level"])


def rank(prompt: Prompt, responses: Sequence[Response], drop_similar: float) -> Preference | None:
    """The preference that a prompt's responses give, or None where they do not differ enough.

    The reference stands for a human's edit and ranks first; then comes a response that passed its checks, then one that
    failed. Of several the commonest is taken: it is what the model most likes to say.

    Args:
        drop_similar: similarity to a better response from which one is left out.
    """
    passing = _by_count(response.text for response in responses if response.passed)
    # An answer that was cut off is no model of what a rejected answer looks like: its end would be missing.
    failing = _by_count(response.text for response in responses if not response.passed and response.ended)
    ranked: list[str] = []
    for candidates in ([prompt.reference], passing, failing):
        for text in candidates:
            if text.strip() and all(similarity(text, better) < drop_similar for better in ranked):
                ranked.append(text)
                break
    if len(ranked) < 2 or ranked[-1] not in failing:
        return None
    return Preference(prompt.messages, prompt.source, prompt.family, tuple(ranked), _level(ranked[0], ranked[-1]))


def _level(best: str, worst: str) -> Level:
    """How clear a preference of a right answer over a wrong one is: the less they share, the clearer."""
    shared = similarity(best, worst)
    if shared < 0.5:
        return "significantly better"
    if shared < 0.75:
        return "better"
    return "slightly better" if shared < 0.9 else "marginally better"


def _by_count(texts: Iterable[str]) -> list[str]:
    """Distinct texts, the commonest first, ties in the order of appearance."""
    counts = Counter(texts)
    return sorted(counts, key=lambda text: -counts[text])
