"""The chapter of scaling laws shows every run, the law and the check, and leaves out what was not fitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from herdsman.files import write_json
from herdsman.release.blocks import Chapter
from herdsman.release.chapters import scaling
from herdsman.release.charts import Line, LineChart, Scale, draw, log_ticks, short_number
from herdsman.release.report import write_report
from herdsman.scaling.curve import Point, isoflop_curve
from herdsman.scaling.law import LLAMA3, fit_isoflop
from herdsman.scaling.options import PUBLISHED_BUDGETS
from herdsman.scaling.sweep import check
from tests.scaling.test_law import sweep


def write_law(root: Path, with_check: bool) -> dict[str, Any]:
    generator = np.random.default_rng(2)
    points = sweep(generator, PUBLISHED_BUDGETS, 6)
    beyond = [Point(1e18, 1e9, tokens, 4 + 1e-9 * tokens) for tokens in (1e8, 2e8, 4e8, 8e8)]
    fit = fit_isoflop([*points, *beyond])
    law = fit.as_json() | {"bits_per_nat": 0.4, "unique_tokens": 10**9, "check": None}
    if with_check:
        law["check"] = check(fit, isoflop_curve(sweep(generator, [1e23], 6)))
    write_json(root / "scaling" / "law.json", law)
    return law


def chapter_of(root: Path) -> Chapter:
    found = scaling.chapter(root)
    assert found
    return found


@pytest.mark.parametrize("with_check", [True, False])
def test_the_page_shows_the_sweep(tmp_path: Path, with_check: bool) -> None:
    law = write_law(tmp_path, with_check)
    write_report(tmp_path, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "64 small models at 11 budgets" in page
    assert page.index("How large, for how much compute") < page.index('id="pretrain"')
    assert f"{law['tokens']['exponent']:.3f}" in page
    assert f"10¹⁸ FLOPs is not used: {law['curves'][0]['problem']}." in page
    assert ("before these were run" in page) == with_check
    curves = page[page.index("Held-out loss of models trained with the same compute") :]
    curves = curves[: curves.index("</svg>")]
    assert curves.count('class="dot"') == 64
    assert "nan" not in page.lower().replace("nanochat", "")


def test_no_sweep_no_chapter(tmp_path: Path) -> None:
    assert scaling.chapter(tmp_path) is None
    (tmp_path / "scaling").mkdir()
    (tmp_path / "scaling" / "law.json").write_text("{")
    assert scaling.chapter(tmp_path) is None
    write_report(tmp_path, tmp_path / "report.html")
    assert "How large, for how much compute" not in (tmp_path / "report.html").read_text()


def test_logarithmic_axes() -> None:
    scale = Scale(1e6, 1e10, 0, 400, log=True)
    assert [scale(value) for value in (1e6, 1e8, 1e10)] == pytest.approx([0, 200, 400])
    assert log_ticks(1e6, 1e10, 5) == pytest.approx([1e6, 1e7, 1e8, 1e9, 1e10])
    assert log_ticks(1.5e5, 3e6, 8) == pytest.approx([2e5, 5e5, 1e6, 2e6])
    assert len(log_ticks(1e-3, 1e25, 8)) <= 9
    assert [short_number(value) for value in (6e18, 1e22, 2e14, 999.0)] == ["6e18", "1e22", "200T", "999"]
    x = [1e18, 1e20, 1e22]
    svg = draw(LineChart("t", "x", "y", (Line("a", x, [LLAMA3(value) for value in x]),), log_x=True, log_y=True))
    points = svg.split('class="line curve"')[1].split('d="M')[1].split('"')[0].split("L")
    slopes = [tuple(map(float, point.split())) for point in points]
    assert slopes[1][1] == pytest.approx((slopes[0][1] + slopes[2][1]) / 2, abs=0.2)  # a power law is a straight line


def test_points_without_a_label_stand_in_no_legend() -> None:
    dots = Line("runs", [1, 2, 3], [3, 1, 2], "grass", "points")
    svg = draw(LineChart("t", "x", "y", (dots, Line("", [1, 2, 3], [2, 1, 2]))))
    assert svg.count("</span>") == 1
    assert svg.count('class="dot"') == 2 * 3
    assert "points curve" not in svg
