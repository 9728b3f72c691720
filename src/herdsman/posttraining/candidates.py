"""Candidates for SFT: references, and the distinct sampled answers of each prompt, of which the best is chosen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from herdsman.generation.sampling import Sampling
from herdsman.posttraining.preferences import Response
from herdsman.synthesis.prompt import Prompt
from herdsman.synthesis.sample import Check, Origin, Sample, passed
from herdsman.synthesis.verify import verify
from herdsman.tokens.chat import Message

TRAINED, NOT_CHOSEN, FAILED = "trained on", "not chosen", "failed its checks"


@dataclass
class Candidate:
    """An answer that SFT may learn from.

    Attributes:
        times: how often it was drawn.
        reward: what the reward model gives it; None until it has been asked.
        use: what became of it.
    """

    sample: Sample
    times: int = 1
    reward: float | None = None
    use: str = NOT_CHOSEN

    @property
    def passed(self) -> bool:
        return passed(self.sample.checks)

    def as_json(self) -> dict[str, Any]:
        return self.sample.as_json() | {"times": self.times, "reward": self.reward, "use": self.use}


def reference_candidates(prompts: Iterable[Prompt], library: Mapping[str, str]) -> Iterator[Candidate]:
    """The references, checked like any answer: a generator that errs teaches nothing."""
    for prompt in prompts:
        origin = Origin("reference", prompt.engine, parents=prompt.parents, licence=prompt.licence)
        found = Candidate(_sample(prompt, prompt.reference, origin, verify(prompt, prompt.reference, True, library)))
        found.use = TRAINED if found.passed else FAILED
        yield found


def sampled_candidates(
    drawn: Iterable[tuple[Prompt, Sequence[Response]]], model: str, sampling: Sampling
) -> Iterator[list[Candidate]]:
    """The distinct answers of each prompt, in the order in which they were first drawn."""
    for prompt, responses in drawn:
        distinct: dict[tuple[str, bool], Candidate] = {}
        for response in responses:
            key = response.text, response.ended
            if key in distinct:
                distinct[key].times += 1
                continue
            sampler = {
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "seed": sampling.seed,
                "row": response.row,
            }
            origin = Origin(
                "sampled", prompt.engine, parents=prompt.parents, model=model, sampler=sampler, licence=prompt.licence
            )
            distinct[key] = Candidate(_sample(prompt, response.text, origin, response.checks))
        yield list(distinct.values())


def choose_best(group: Sequence[Candidate]) -> None:
    """Marks the answer with the highest reward among those that passed their checks, the first of equals."""
    passing = [candidate for candidate in group if candidate.passed]
    for candidate in group:
        candidate.use = NOT_CHOSEN if candidate.passed else FAILED
    if passing:
        max(passing, key=_reward).use = TRAINED


def pick(group: Sequence[Candidate]) -> Candidate:
    """The answer that the reward model likes best, whatever the checks say of it."""
    return max(group, key=_reward)


def _reward(candidate: Candidate) -> float:
    return float("-inf") if candidate.reward is None else candidate.reward


def _sample(prompt: Prompt, answer: str, origin: Origin, checks: tuple[Check, ...]) -> Sample:
    return Sample((*prompt.messages, Message("assistant", answer)), prompt.source, prompt.family, origin, checks)
