"""Line charts as small inline SVG: text stays text, colours are the page's own, the same data give the same bytes.

Each chart is drawn twice, for wide and for narrow pages; the style sheet shows one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

MOST_POINTS = 400
SLACK = 0.005  # of the range: a tick that lies this little beyond the last value is still shown
LETTER = 6.4  # pixels a letter of an axis label takes, about


@dataclass(frozen=True)
class Line:
    """One curve: x and y of equal length, drawn in a colour of the page's palette (see the style sheet).

    One without a label stands neither in the legend nor has its last value beside it.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str = "grass"
    style: str = "line"  # line, faint (thin, behind the others), dots (joined) or points (not joined)


@dataclass(frozen=True)
class LineChart:
    """Curves over one axis, with marked spans.

    Attributes:
        title: what the chart shows, in a sentence that also stands for it where it cannot be seen.
        spans: (from, to, label) of shaded stretches of x.
        from_zero: y begins at 0, and the curves' last values are not written beside them.
        log_x, log_y: the axis is logarithmic.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    spans: tuple[tuple[float, float, str], ...] = ()
    from_zero: bool = False
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Scale:
    """Maps values from `low` to `high` to pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        value, low, high = map(math.log, (value, self.low, self.high)) if self.log else (value, self.low, self.high)
        return self.start + (value - low) / (high - low or 1) * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        return log_ticks(self.low, self.high, most) if self.log else ticks(self.low, self.high, most)


@dataclass(frozen=True)
class Frame:
    """Size of a drawing and its margins, in pixels."""

    name: str
    width: int
    height: int
    x_ticks: int
    top: int = 30
    bottom: int = 44
    right: int = 46


FRAMES = (Frame("wide", 760, 310, 8), Frame("narrow", 370, 270, 4))


def draw(chart: LineChart) -> Markup:
    """The chart with its legend, as two inline SVG elements, one shown on wide pages and one on narrow pages."""
    legend = Markup("").join(
        Markup('<span class="of-{}" style="--c:var(--{})">{}</span>').format(line.style, line.colour, line.label)
        for line in chart.lines
        if line.label
    )
    drawings = Markup("").join(
        Markup('<div class="chart {}">{}</div>').format(frame.name, _svg(chart, frame)) for frame in FRAMES
    )
    return (Markup('<p class="legend">{}</p>').format(legend) if len(chart.lines) > 1 else Markup()) + drawings


def thin(values: Sequence[float], most: int = MOST_POINTS) -> list[int]:
    """Indices of at most `most` evenly spread values, the first and the last among them."""
    count = len(values)
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def smooth(values: Sequence[float], share: float = 0.02) -> list[float]:
    """Centred moving average over `share` of the values, narrower at the ends."""
    reach = int(len(values) * share / 2)
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` + 1 round numbers within [low, high], evenly spaced by 1, 2, 2.5 or 5 times a power of ten."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` + 1 numbers within [low, high] that are 1, 2 or 5 times a power of ten, or powers of ten alone, as
    many as there is room for."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside = []
    for factors, every in (((1, 2, 5), 1), ((1, 3), 1), *(((1,), every) for every in range(1, len(powers) + 1))):
        inside = [factor * 10.0**power for power in powers if power % every == 0 for factor in factors]
        inside = [tick for tick in inside if low <= tick <= high]
        if len(inside) <= most + 1:
            break
    return inside


def short_number(value: float) -> str:
    """A number for an axis: 0.25, 1,200, 1.5M, 6e18."""
    if abs(value) >= 1e15:
        return f"{value:.2g}".replace("e+", "e")
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.4g}{unit}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.1e}".replace("e-0", "e-")


def _svg(chart: LineChart, frame: Frame) -> Markup:
    lines = [_finite(line) for line in chart.lines]
    xs, ys = [x for line in lines for x in line.x], [y for line in lines for y in line.y]
    if not xs:
        return Markup()
    low, high = min(ys), max(ys)
    low = min(low, 0.0) if chart.from_zero else low
    room = 0.04 * (high - low) or 0.05 * abs(high) or 1.0
    if chart.log_y:
        low, high = low * (low / high) ** 0.04, high * (high / low) ** 0.04
    else:
        low, high = (low if low == 0 else low - room), high + room
    floor = frame.height - frame.bottom
    y_ticks = Scale(low, high, 0, 0, chart.log_y).ticks(5)
    left = 12 + LETTER * max(len(short_number(tick)) for tick in y_ticks)
    x = Scale(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, left, frame.width - frame.right, chart.log_x)
    y = Scale(low, high, floor, frame.top, chart.log_y)
    within = x if chart.log_x else Scale(x.low, x.high + SLACK * (x.high - x.low), 0, 0)
    parts = [
        *(_span(span, x, y) for span in chart.spans),
        *(_y_tick(tick, x, y) for tick in y_ticks),
        *(_x_tick(tick, x, floor) for tick in within.ticks(frame.x_ticks)),
        Markup('<path class="axis" d="M{:.1f} {}H{:.1f}"/>').format(x.start, floor, x.end),
        _text("title", 0, 12, "start", chart.y_label),
        _text("title", x.end, frame.height - 6, "end", chart.x_label),
        *(_curve(line, x, y) for line in lines),
        *(_end(line, x, y) for line in lines if line.style == "line" and line.label and not chart.from_zero),
    ]
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        frame.width, frame.height, chart.title, Markup("").join(parts)
    )


def _finite(line: Line) -> Line:
    """The line without values that cannot be drawn, and with no more points than the eye can tell apart."""
    pairs = [(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
    pairs = [pairs[i] for i in thin([x for x, _ in pairs])]
    return Line(line.label, [x for x, _ in pairs], [y for _, y in pairs], line.colour, line.style)


def _span(span: tuple[float, float, str], x: Scale, y: Scale) -> Markup:
    start, end = max(x.start, x(span[0])), min(x.end, x(span[1]))
    box = Markup('<rect class="span" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>')
    return box.format(start, y.end, max(0.0, end - start), y.start - y.end) + _text(
        "title", end, y.end - 5, "end", span[2]
    )


def _y_tick(value: float, x: Scale, y: Scale) -> Markup:
    grid = Markup('<path class="grid" d="M{:.1f} {:.1f}H{:.1f}"/>').format(x.start, y(value), x.end)
    return grid + _text("tick", x.start - 8, y(value) + 4, "end", short_number(value))


def _x_tick(value: float, x: Scale, floor: float) -> Markup:
    return _text("tick", x(value), floor + 18, "middle", short_number(value))


def _curve(line: Line, x: Scale, y: Scale) -> Markup:
    points = [(x(a), y(b)) for a, b in zip(line.x, line.y, strict=True)]
    if not points:
        return Markup()
    style = Markup('style="--c:var(--{})"').format(line.colour)
    path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
    curve = Markup('<path class="{} curve" {} d="{}"/>').format(line.style, style, path)
    dots = Markup("").join(_dot(line, *point) for point in points if line.style in ("dots", "points"))
    return dots if line.style == "points" else curve + dots


def _end(line: Line, x: Scale, y: Scale) -> Markup:
    """The last value, written beside the curve's end."""
    if not line.x:
        return Markup()
    a, b = x(line.x[-1]), y(line.y[-1])
    rounded = float(f"{line.y[-1]:.3g}")
    shown = short_number(rounded) if abs(rounded) >= 1e4 else f"{rounded:.3g}"
    return _dot(line, a, b) + _text("value", a + 7, b + 4, "start", shown)


def _dot(line: Line, x: float, y: float) -> Markup:
    return Markup('<circle class="dot" style="--c:var(--{})" cx="{:.1f}" cy="{:.1f}" r="3.4"/>').format(
        line.colour, x, y
    )


def _text(kind: str, x: float, y: float, anchor: str, text: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, text)
