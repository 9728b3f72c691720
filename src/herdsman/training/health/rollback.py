"""The data that training has learnt to leave out: windows of the token stream that went with a roll-back."""

from __future__ import annotations

from typing import Any

from herdsman.errors import HerdsmanError
from herdsman.training.health.options import SpikeOptions

NEAR_STEPS = 512  # roll-backs to steps no further apart than this are to the same place


class LeftOut:
    """Windows of the token stream that are never read again.

    Schedules count the tokens trained on; the token stream is read at data positions. The two are equal until the
    first roll-back; from then on `position` leads from one to the other. It is a pure function of the windows, which
    belong in every checkpoint. On a roll-back this object is kept while all else is loaded: a checkpoint made before
    the window was known does not know it.
    """

    def __init__(self, options: SpikeOptions):
        self.options = options
        self.windows: list[tuple[int, int]] = []  # [begin, end) in data positions, ascending, apart from each other
        self.rollbacks: list[int] = []  # the step each roll-back went to

    def position(self, trained_tokens: int) -> int:
        """The data position that follows after this many tokens trained on.

        Windows begin where a step began, and steps begin there again after a roll-back, so no step straddles one.
        """
        position = trained_tokens
        for begin, end in self.windows:
            if position < begin:
                break
            position += end - begin
        return position

    def add(self, step: int, begin: int, end: int, reason: str) -> None:
        """Leaves the data positions [begin, end) out from now on.

        Args:
            step: of the checkpoint that training goes back to.
            begin: data position of that checkpoint.
            end: data position after the step that was judged last.
            reason: the detector's.

        Raises:
            HerdsmanError: training has gone back to about this step as often as it may.
        """
        near = sum(abs(step - before) <= NEAR_STEPS for before in self.rollbacks)
        if near >= self.options.rollbacks_before_stop:
            raise HerdsmanError(
                f"training does not get past step {step}: {reason}, and it has gone back {near} times already",
                do="lower the learning rate in the recipe, or look at the data that the roll_back events name",
            )
        self.rollbacks.append(step)
        merged: list[tuple[int, int]] = []
        for window in sorted([*self.windows, (begin, end)]):
            if merged and window[0] <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(window[1], merged[-1][1]))
            else:
                merged.append(window)
        self.windows = merged

    def state(self) -> dict[str, Any]:
        """For the checkpoint; JSON-able."""
        return {"windows": [list(window) for window in self.windows], "rollbacks": self.rollbacks}

    def load(self, state: dict[str, Any]) -> None:
        self.windows = [(begin, end) for begin, end in state["windows"]]
        self.rollbacks = list(state["rollbacks"])
