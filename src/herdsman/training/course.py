"""The steps of a run: what each trains on and how fast it learns, as pure functions of where the run stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from herdsman.errors import HerdsmanError
from herdsman.training.objective import Batch


@dataclass(frozen=True)
class Step:
    """One step of a run.

    Attributes:
        tokens: it trains on, over all ranks.
        position: place of its first token in the data.
        sequence_length: of its rows, at most.
        phase: shown in logs.
    """

    learning_rate: float
    tokens: int
    position: int
    sequence_length: int
    phase: str


class Course(Protocol):
    """A run's steps, its data, and what it has decided under way."""

    def before(self, step: int, tokens: int) -> bool:
        """Called on all ranks when so many steps are done and tokens trained on: the place for measurements that may
        change what follows. Returns whether anything was decided that is worth a checkpoint."""
        ...

    def at(self, step: int, tokens: int) -> Step | None:
        """The step that follows there; None where the run is over."""
        ...

    @property
    def steps(self) -> int:
        """Steps of the whole run, as far as is known."""
        ...

    def read(self, step: Step) -> Sequence[Batch]:
        """This data rank's micro-batches, as many on every rank. Runs beside training, in a thread."""
        ...

    def state(self) -> dict[str, Any]:
        """What it has decided so far, as JSON takes it; belongs into checkpoints."""
        ...

    def load(self, state: dict[str, Any]) -> None: ...

    def leave_out(self, step: int, begin: int, end: int, reason: str) -> None:
        """Leaves out, from now on, the data between two numbers of tokens trained on; the run has gone back to `step`.

        Raises:
            HerdsmanError: it has gone back there too often.
        """
        ...


class Listed:
    """A fixed list of steps, as in fine-tuning.

    Args:
        tokens: of each step.
        learning_rate: of a step's number.
        batches: micro-batches of a step's number.
    """

    def __init__(
        self,
        tokens: Sequence[int],
        learning_rate: Callable[[int], float],
        batches: Callable[[int], Sequence[Batch]],
    ):
        self.tokens, self.learning_rate, self.batches = tokens, learning_rate, batches

    def before(self, step: int, tokens: int) -> bool:
        return False

    def at(self, step: int, tokens: int) -> Step | None:
        if step >= len(self.tokens):
            return None
        return Step(self.learning_rate(step), self.tokens[step], step, self.tokens[step], "")

    @property
    def steps(self) -> int:
        return len(self.tokens)

    def read(self, step: Step) -> Sequence[Batch]:
        return self.batches(step.position)

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: dict[str, Any]) -> None:
        pass

    def leave_out(self, step: int, begin: int, end: int, reason: str) -> None:
        raise HerdsmanError(f"training goes wrong after step {step}: {reason}", do="lower the learning rate")
