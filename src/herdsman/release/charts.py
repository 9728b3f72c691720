"""Line charts as small inline SVG: text stays text, colours are the page's CSS variables, the same data give the same bytes.

Each chart is drawn twice, for wide and for narrow pages; the style sheet shows one. Nothing needs a display.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from markupsafe import Markup

WIDE_INCHES, NARROW_INCHES = (7.4, 2.9), (3.7, 2.7)
MOST_POINTS = 400
# Stand-ins that matplotlib accepts as colours; in the SVG each becomes a CSS variable of the page.
_COLOURS = {
    "ink": "#010101", "soft": "#020202", "rule": "#030303", "grass": "#040404", "hay": "#050505",
    "clay": "#060606", "sky": "#070707", "heather": "#080808",
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One curve: x and y of equal length, drawn in a colour of the page's palette (see the style sheet)."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str = "grass"
    style: str = "line"  # line, faint (a thin line behind the others), dashed or dots


@dataclass(frozen=True)
class LineChart:
    """Curves over one axis, with marked spans and moments.

    Attributes:
        title: what the chart shows, in a sentence that also stands for it where it cannot be seen.
        spans: (from, to, label) of shaded stretches of x.
        moments: (x, label) of vertical marks.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    spans: tuple[tuple[float, float, str], ...] = ()
    moments: tuple[tuple[float, str], ...] = ()
    log_y: bool = False
    from_zero: bool = field(default=False)


def draw(chart: LineChart) -> Markup:
    """The chart as two inline SVG elements, one shown on wide pages and one on narrow pages."""
    return Markup("").join(
        Markup(f'<div class="chart {name}">{_svg(chart, name, inches)}</div>')
        for name, inches in (("wide", WIDE_INCHES), ("narrow", NARROW_INCHES))
    )


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


def _svg(chart: LineChart, name: str, inches: tuple[float, float]) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": f"{name} {chart.title}",
        "font.size": 9.5,
        "text.parse_math": False,
        "axes.edgecolor": _COLOURS["rule"],
        "axes.labelcolor": _COLOURS["soft"],
        "xtick.color": _COLOURS["soft"],
        "ytick.color": _COLOURS["soft"],
        "path.simplify": True,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=inches, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for line in chart.lines:
            _plot(axes, line)
        for start, end, label in chart.spans:
            axes.axvspan(start, end, color=_COLOURS["hay"], alpha=0.12, linewidth=0)
            _caption(axes, start, label)
        for x, label in chart.moments:
            axes.axvline(x, color=_COLOURS["soft"], linewidth=0.8, linestyle=(0, (2, 2)))
            _caption(axes, x, label)
        if chart.log_y:
            axes.set_yscale("log")
        elif chart.from_zero:
            axes.set_ylim(bottom=0)
        axes.margins(x=0.01)
        axes.set_xlabel(chart.x_label)
        axes.set_ylabel(chart.y_label)
        axes.xaxis.set_major_locator(MaxNLocator(4 if name == "narrow" else 8))
        axes.xaxis.set_major_formatter(lambda value, _: short_number(value))
        axes.yaxis.set_major_formatter(lambda value, _: short_number(value))
        axes.grid(axis="y", color=_COLOURS["rule"], linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        if len(chart.lines) > 1:
            figure.legend(
                loc="outside upper left", ncols=2 if name == "narrow" else 5, frameon=False,
                labelcolor=_COLOURS["soft"], handlelength=1.4, columnspacing=1.4, borderaxespad=0.1,
            )  # fmt: skip
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _for_page(out.getvalue(), chart.title)


def _plot(axes: object, line: Line) -> None:
    kept = thin(line.x)
    x, y = [line.x[i] for i in kept], [line.y[i] for i in kept]
    colour = _COLOURS[line.colour]
    look = {
        "line": {"linewidth": 1.7},
        "faint": {"linewidth": 0.7, "alpha": 0.35},
        "dashed": {"linewidth": 1.4, "linestyle": (0, (4, 2))},
        "dots": {"linewidth": 0.8, "marker": "o", "markersize": 3.6},
    }[line.style]
    axes.plot(x, y, color=colour, label=line.label, **look)  # type: ignore[attr-defined]


def _caption(axes: object, x: float, label: str) -> None:
    axes.annotate(  # type: ignore[attr-defined]
        label, (x, 1), (3, -2), xycoords=("data", "axes fraction"), textcoords="offset points", va="top", fontsize=8.5,
        color=_COLOURS["soft"],
    )  # fmt: skip


def short_number(value: float) -> str:
    """A number for an axis: 0.25, 1,200, 1.5M."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.4g}{unit}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.1e}".replace("e-0", "e-")


def _for_page(svg: str, title: str) -> str:
    """The SVG as part of a page: no prologue, no fixed size, colours and fonts from the style sheet, a title."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    for name, stand_in in _COLOURS.items():
        svg = svg.replace(stand_in, f"var(--{name})")
    svg = re.sub(r"font-family: [^;]*;", "font-family: var(--sans);", svg)
    svg = re.sub(r' (?:d|x|y|transform)="[^"]*"', lambda match: re.sub(r"(\.\d)\d+", r"\1", match[0]), svg)
    svg = re.sub(r' id="(?![mp][0-9a-f]{10}")[^"]*"', "", svg)  # only clip paths and markers are referred to
    svg = re.sub(r"\s+", " ", svg).replace("> <", "><")
    view = re.search(r'viewBox="[^"]*"', svg)
    inner = svg[svg.index(">") + 1 :]
    label = escape(title, quote=True)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{view.group() if view else ""} role="img" aria-label="{label}">'
    )
    return head + inner
