"""What a chapter of the report is made of: a few kinds of block, each with one macro in `templates/blocks.html`.

Blocks hold plain text; the template escapes it. Only `Markup` is taken as HTML, and only this package makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from herdsman.documents.differences import LEFT, RIGHT, SAME, differences

CONTEXT = 40  # words and the spaces between them that a comparison shows beside a difference


@dataclass(frozen=True)
class Block:
    @property
    def kind(self) -> str:
        """The macro that renders the block: the class's name in lower case."""
        return type(self).__name__.lower()


@dataclass(frozen=True)
class Prose(Block):
    """A paragraph."""

    text: str | Markup


@dataclass(frozen=True)
class Items(Block):
    """A bulleted list."""

    items: Sequence[str]


@dataclass(frozen=True)
class Code(Block):
    """A piece of code to copy."""

    text: str


@dataclass(frozen=True)
class Figure:
    """One key figure: a value, what it is, and a remark."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Figures(Block):
    """A row of key figures."""

    items: Sequence[Figure]


@dataclass(frozen=True)
class Example:
    """A piece of text with where it comes from and why it is shown."""

    title: str
    text: str
    reason: str = ""


@dataclass(frozen=True)
class FunnelRow:
    """One step of the funnel: what is left after it and what it took away, with examples to open."""

    label: str
    left: int
    dropped: int = 0
    note: str = ""
    examples: Sequence[Example] = ()


@dataclass(frozen=True)
class Funnel(Block):
    """Counts that shrink from step to step; bars are shares of the first row."""

    title: str
    unit: str
    rows: Sequence[FunnelRow]

    @property
    def most(self) -> int:
        return max((row.left + row.dropped for row in self.rows), default=0) or 1


@dataclass(frozen=True)
class Bar:
    """A labelled bar; `target` (same scale as `value`) is marked where there is one."""

    label: str
    value: float
    shown: str
    note: str = ""
    target: float | None = None
    colour: str = "grass"


@dataclass(frozen=True)
class Bars(Block):
    """Bars over one scale that starts at 0 and ends at `most` (the largest value if 0).

    `mark` says what the bars' targets mean.
    """

    title: str
    items: Sequence[Bar]
    most: float = 0.0
    note: str = ""
    mark: str = ""

    @property
    def scale(self) -> float:
        targets = (bar.target or 0.0 for bar in self.items)
        return self.most or max([*(bar.value for bar in self.items), *targets], default=0.0) or 1.0


@dataclass(frozen=True)
class Stack:
    """A bar of parts: shares by name of the series, which sum to 1."""

    label: str
    shares: dict[str, float]
    shown: str
    note: str = ""


@dataclass(frozen=True)
class Stacks(Block):
    """Bars of equal length cut into parts; `series` maps the name of a part to its colour, in order."""

    title: str
    series: dict[str, str]
    items: Sequence[Stack]
    note: str = ""


@dataclass(frozen=True)
class Histogram(Block):
    """Counts in bins of equal width from 0 to 1; the part below `threshold` is shown as lost."""

    title: str
    counts: Sequence[int]
    unit: str
    threshold: float | None = None
    note: str = ""

    @property
    def most(self) -> int:
        return max(self.counts, default=0) or 1


@dataclass(frozen=True)
class Dot:
    """A measured share with its interval; `series` names its colour and meaning."""

    value: float
    low: float
    high: float
    series: str


@dataclass(frozen=True)
class DotRow:
    label: str
    dots: Sequence[Dot]
    chance: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Dots(Block):
    """Dot-and-whisker chart of shares from 0 to 1, one row a task; `series` maps name to colour, in order."""

    title: str
    rows: Sequence[DotRow]
    series: dict[str, str]
    note: str = ""


@dataclass(frozen=True)
class Table(Block):
    """A table; columns from the second on are numbers, set flush right, unless named in `text_columns`."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""
    text_columns: Sequence[int] = (0,)


@dataclass(frozen=True)
class Chart(Block):
    """A drawn chart with its caption."""

    svg: Markup
    caption: str = ""


@dataclass(frozen=True)
class Texts(Block):
    """Pieces of text, such as samples of a model; as a timeline when `timeline` is set."""

    title: str
    items: Sequence[Example]
    timeline: bool = False
    note: str = ""


@dataclass(frozen=True)
class Pair(Block):
    """Two texts side by side with their differences marked."""

    title: str
    left_title: str
    left: Markup
    right_title: str
    right: Markup
    note: str = ""


@dataclass(frozen=True)
class Turn:
    role: str
    text: str


@dataclass(frozen=True)
class Chat:
    """A prompt and the answers to compare, each (who answered, its text, verdict or '')."""

    prompt: Sequence[Turn]
    answers: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Chats(Block):
    title: str
    items: Sequence[Chat]
    note: str = ""


@dataclass(frozen=True)
class Tokens(Block):
    """A text coloured by token."""

    title: str
    pieces: Sequence[str]
    note: str = ""


@dataclass(frozen=True)
class Fold(Block):
    """Blocks that open on demand."""

    summary: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Section(Block):
    """Blocks under a heading of their own."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Chapter:
    """A stage's part of the report. `blocks` is None for a stage that has not been run."""

    stage: str
    title: str
    lead: str
    blocks: Sequence[Block] | None = None
    cost: str = ""


def compare(left: str, right: str) -> tuple[Markup, Markup]:
    """Both texts with what only one of them has wrapped in `<del>` (left) or `<ins>` (right), word by word.

    Of a long stretch that both share, only what stands next to a difference is kept.
    """
    sides = {LEFT: Markup(), RIGHT: Markup()}
    for mark, words in differences(left, right):
        if mark == SAME:
            sides = {side: text + escape("".join(_shortened(words))) for side, text in sides.items()}
        else:
            tag = Markup("<del>{}</del>") if mark == LEFT else Markup("<ins>{}</ins>")
            sides[mark] += tag.format("".join(words))
    return sides[LEFT], sides[RIGHT]


def _shortened(words: list[str]) -> list[str]:
    """What both texts share, without the middle of it where that is long."""
    if len(words) <= 3 * CONTEXT:
        return words
    return [*words[:CONTEXT], " … ", *words[-CONTEXT:]]


def clip(text: str, most: int) -> str:
    """The beginning of a text, cut at a word near `most` characters, with an ellipsis where something was cut."""
    text = text.strip()
    if len(text) <= most:
        return text
    head = text[:most]
    return head[: head.rfind(" ")].rstrip() + " …" if " " in head[most // 2 :] else head + "…"
