"""Curves as one SVG file that stands alone: readable on light and dark pages, labelled at their ends."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from herdsman.release.charts import Scale, short_number, ticks

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 380, 56, 16, 16, 46
COLOURS = ("#2e7d32", "#c2571a", "#3566b8", "#8a4fb0", "#8a7a1f", "#b03060")
STYLE = (
    "text{font:12px sans-serif;fill:#555}.grid{stroke:#8884;stroke-width:1}"
    "@media(prefers-color-scheme:dark){text{fill:#bbb}}"
)


def draw(
    title: str, x_label: str, y_label: str, curves: Sequence[tuple[str, Sequence[tuple[float, float]]]], y_from: float
) -> str:
    """Curves of (x, y) with their names; those of one name share a colour.

    Args:
        y_from: points above this are not drawn, so that the ends can be told apart.
    """
    shown = [(name, [point for point in curve if point[1] <= y_from]) for name, curve in curves]
    points = [point for _, curve in shown for point in curve]
    names = list(dict.fromkeys(name for name, _ in shown))
    x = Scale(0.0, max(x for x, _ in points), LEFT, WIDTH - RIGHT)
    y = Scale(min(y for _, y in points) - 0.02, y_from, HEIGHT - BOTTOM, TOP)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    parts += [f"<title>{escape(title)}</title><style>{STYLE}</style>"]
    for tick in ticks(x.low, x.high, 8):
        parts.append(
            f'<text x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{short_number(tick)}</text>'
        )
    for tick in ticks(y.low, y.high, 6):
        parts.append(f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{short_number(tick)}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{escape(x_label)}</text>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 8}">{escape(y_label)}</text>')
    for name, curve in shown:
        line = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in curve)
        colour = COLOURS[names.index(name) % len(COLOURS)]
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
    for place, name in enumerate(names):
        down = TOP + 16 + 18 * place
        colour = COLOURS[place % len(COLOURS)]
        parts.append(f'<path d="M{WIDTH - 380} {down - 4}h22" stroke="{colour}" stroke-width="2.5"/>')
        parts.append(f'<text x="{WIDTH - 352}" y="{down}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
