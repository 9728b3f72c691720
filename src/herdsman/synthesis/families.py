"""Checkable tasks: each family draws its facts, asks about them in several wordings, and judges answers exactly."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from herdsman.synthesis.material import Material
from herdsman.synthesis.prompt import Prompt, Split, as_typed, generator, split_of
from herdsman.tokens.chat import Message

ENGINE = "synthesis.tasks@1"
TRIES_PER_PROMPT = 60

Facts = Mapping[str, Any]
Draw = Callable[[random.Random, Material, int], Facts]


@dataclass(frozen=True)
class Family:
    """One kind of task.

    Attributes:
        name: the family's name.
        draw: facts of a new task, from random choices, the documents' words and a difficulty from 1 to 3.
        wordings: ways to ask, format strings over the facts; `shown` turns facts into what they are given.
        solve: the reference answer.
        accepts: whether an answer is right, given the facts; equality with the reference if left out.
        shown: facts as they appear in the wording.
        content: what makes two tasks the same for the split, so that 3 + 5 is held out together with 5 + 3.
        least_difficulty: the family is left out of easier tasks.
    """

    name: str
    draw: Draw
    wordings: tuple[str, ...]
    solve: Callable[[Facts], str]
    accepts: Callable[[Facts, str], bool] | None = None
    shown: Callable[[Facts], Facts] = lambda facts: facts
    content: Callable[[Facts], object] = dict
    least_difficulty: int = 1

    def right(self, facts: Facts, answer: str) -> bool:
        """Judges an answer; white space around it does not matter."""
        answer = answer.strip()
        return self.accepts(facts, answer) if self.accepts else answer == self.solve(facts)


def make_tasks(
    families: tuple[Family, ...], material: Material, split: Split, count: int, difficulty: int, seed: int
) -> Iterator[Prompt]:
    """`count` tasks, shared evenly among the families of this difficulty, no two prompts alike.

    A family whose facts at this difficulty are fewer than its share gives what it has.
    """
    families = tuple(family for family in families if family.least_difficulty <= difficulty)
    for number, family in enumerate(families):
        share = count // len(families) + (number < count % len(families))
        rng = generator(seed, "tasks", family.name, split)
        seen: set[str] = set()
        for _ in range(share * TRIES_PER_PROMPT):
            if len(seen) == share:
                break
            facts = family.draw(rng, material, rng.randint(family.least_difficulty, difficulty))
            wording = rng.choice(family.wordings)
            if split_of("tasks", family.name, family.content(facts)) != split:
                continue
            question = as_typed(rng, wording.format(**family.shown(facts)))
            if question not in seen:
                seen.add(question)
                yield Prompt(
                    messages=(Message("user", question),),
                    source="tasks",
                    family=family.name,
                    reference=family.solve(facts),
                    facts=facts,
                    engine=ENGINE,
                )
