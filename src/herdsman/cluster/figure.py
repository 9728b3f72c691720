"""A number with its unit, where it comes from and how sure it is: what plans are made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Origin = Literal["paper", "card", "measured", "derived", "assumed"]


@dataclass(frozen=True)
class Figure:
    """A positive quantity and the range it is expected in.

    Attributes:
        origin: "paper" and "card" are published, "measured" was measured by Herdsman, "derived" follows from the recipe
            or from other figures, "assumed" is a choice that the user may know better.
        low, high: equal to `value` where it is exact.
        source: what or where, in a few words.
    """

    value: float
    unit: str
    origin: Origin
    low: float
    high: float
    source: str = ""

    @staticmethod
    def exact(value: float, unit: str, origin: Origin = "derived", source: str = "") -> Figure:
        return Figure(value, unit, origin, value, value, source)

    def times(self, other: Figure | float, unit: str, source: str = "") -> Figure:
        """The product, with the widest range that the two ranges allow."""
        by = other if isinstance(other, Figure) else Figure.exact(other, "")
        return self._with(by, unit, self.value * by.value, self.low * by.low, self.high * by.high, source)

    def over(self, other: Figure | float, unit: str, source: str = "") -> Figure:
        """The quotient, with the widest range that the two ranges allow."""
        by = other if isinstance(other, Figure) else Figure.exact(other, "")
        return self._with(by, unit, self.value / by.value, self.low / by.high, self.high / by.low, source)

    def plus(self, other: Figure | float) -> Figure:
        by = other if isinstance(other, Figure) else Figure.exact(other, self.unit)
        return self._with(by, self.unit, self.value + by.value, self.low + by.low, self.high + by.high, "")

    def _with(self, other: Figure, unit: str, value: float, low: float, high: float, source: str) -> Figure:
        """Made of this and another: derived, but assumed if either is."""
        origin: Origin = "assumed" if "assumed" in (self.origin, other.origin) else "derived"
        return Figure(value, unit, origin, low, high, source or self.source)

    def holds(self, value: float) -> bool:
        """Whether a value lies in the range."""
        return self.low <= value <= self.high

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
