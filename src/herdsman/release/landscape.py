"""The hills under the report's title: the nearest is the training loss of this very herd, a sheep a finished stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup

from herdsman.release.charts import smooth, thin

HEIGHT = 240
LOWEST = 212  # feet of a sheep: below is the caption
WIDTHS = {"wide": 1600, "narrow": 620}


def landscape(losses: Sequence[float], flock: Sequence[str]) -> Markup:
    """Two drawings, for wide and for narrow pages.

    Args:
        losses: the training loss, step by step; empty before pretraining, when the hill is only a hill.
        flock: names of the finished stages, one sheep each.
    """
    note = (
        f"The near hill is the training loss: {losses[0]:.1f} down to {losses[-1]:.1f} nats a token. " if losses else ""
    )
    sheep = f"{len(flock)} sheep, one for each finished stage." if flock else ""
    drawings = Markup("").join(
        Markup('<div class="chart {}">{}</div>').format(Markup(name), _drawing(width, losses, flock))
        for name, width in WIDTHS.items()
    )
    return drawings + Markup('<p class="hills-note">{}{}</p>').format(note, sheep)


def _drawing(width: int, losses: Sequence[float], flock: Sequence[str]) -> Markup:
    near = _slope(width, losses)
    far = [(x, 118 + 26 * math.sin(x / 210 + 0.6) + 12 * math.sin(x / 83 + 2)) for x in range(0, width + 20, 20)]
    middle = [(x, 150 + 24 * math.sin(x / 260 + 3.4) + 8 * math.sin(x / 97)) for x in range(0, width + 20, 20)]
    hills = Markup("").join(
        Markup('<path class="{}" d="{}"/>').format(Markup(name), Markup(_area(points, width)))
        for name, points in (("h1", far), ("h2", middle), ("h3", near))
    )
    flock_size = len(flock)
    first, gap = (0.30 * width, 0.62 * width / max(flock_size, 9)) if width > 1000 else (0.24 * width, 0.72 * width / 9)
    places = [first + gap * i + 9 * math.sin(5.1 * i) for i in range(flock_size)]
    sheep = Markup("").join(
        _sheep(x, min(LOWEST, _height_at(near, x) + 13 + 17 * (0.5 + 0.5 * math.sin(2.7 * i + 1))), i, stage)
        for i, (x, stage) in enumerate(zip(places, flock, strict=True))
    )
    return Markup(
        '<svg class="hills" viewBox="0 0 {w} {h}" preserveAspectRatio="xMidYMax slice" role="img" '
        'aria-label="Hills with {n} sheep"><circle class="orb" cx="{orb}" cy="62" r="30"/>{hills}{sheep}</svg>'
    ).format(w=width, h=HEIGHT, n=flock_size, orb=round(0.72 * width), hills=hills, sheep=sheep)


def _slope(width: int, losses: Sequence[float]) -> list[tuple[float, float]]:
    """The near hill: the smoothed loss from its highest (left, y = 40) to its lowest (y = 190)."""
    if len(losses) < 8:
        return [(x, 170 + 18 * math.sin(x / 300 + 1)) for x in range(0, width + 20, 20)]
    level = smooth([math.log(max(loss, 1e-6)) for loss in losses], 0.04)
    level = [level[i] for i in thin(level, 90)]
    low, high = min(level), max(level)
    rise = 150 / (high - low) if high > low else 0.0
    return [(width * i / (len(level) - 1), 190 - rise * (value - low)) for i, value in enumerate(level)]


def _area(points: Sequence[tuple[float, float]], width: int) -> str:
    """A closed path from the ridge down to the bottom edge, smoothed through the midpoints."""
    path = f"M0 {HEIGHT}L0 {points[0][1]:.0f}"
    for (x0, y0), (x1, y1) in pairwise(points):
        path += f"Q{x0:.0f} {y0:.0f} {(x0 + x1) / 2:.0f} {(y0 + y1) / 2:.0f}"
    return path + f"L{width} {points[-1][1]:.0f}V{HEIGHT}Z"


def _height_at(points: Sequence[tuple[float, float]], x: float) -> float:
    return min(points, key=lambda point: abs(point[0] - x))[1]


def _sheep(x: float, y: float, number: int, stage: str) -> Markup:
    """One sheep with its feet at (x, y); every third looks the other way."""
    turned = -1 if number % 3 == 1 else 1
    scale = 1.0 + 0.12 * math.sin(3.3 * number)
    return Markup(
        '<g transform="translate({x:.0f} {y:.0f}) scale({sx:.2f} {sy:.2f})"><title>{stage}</title>'
        '<path class="leg" stroke-width="2" d="M-6 -6V0M-2 -6V0M5 -6V0M9 -6V0"/>'
        '<path class="fleece" d="M-11 -9a5 5 0 0 1 3-8a6 6 0 0 1 9-3a6 6 0 0 1 9 2a5 5 0 0 1 4 7a5 5 0 0 1-5 6'
        'h-16a4 4 0 0 1-4-4Z"/>'
        '<path class="face" d="M12 -17c4-2 7 1 7 4s-2 5-5 4s-4-6-2-8Z"/></g>'
    ).format(x=x, y=y, sx=turned * scale, sy=scale, stage=stage)
