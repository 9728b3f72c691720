"""The report: well-formed, self-contained, safe, quick, and there at every moment of a run."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from herdsman.files import read_json, write_json
from herdsman.release.blocks import clip, compare
from herdsman.release.charts import Line, LineChart, draw, short_number, smooth, thin, ticks
from herdsman.release.figures import duration, interval, percent, power_of_ten, short_count, size
from herdsman.release.journey import STAGES
from herdsman.release.report import write_report
from tests.release.example import HOSTILE, write_workspace

VOID = {"meta", "link", "br", "img", "hr", "input"}
FETCHING = ("src", "srcset", "action", "data", "poster", "xlink:href")


class Page(HTMLParser):
    """Checks nesting and collects what tests ask for."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} has an attribute twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag], f"</{tag}> closes nothing"
        self.open.pop()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page_of(root: Path) -> tuple[str, Page]:
    write_report(root, root / "report.html")
    html = (root / "report.html").read_text(encoding="utf-8")
    return html, Page(html)


@pytest.mark.parametrize("until", ["", *STAGES])
def test_every_prefix_of_the_stages(tmp_path: Path, until: str) -> None:
    _, page = page_of(write_workspace(tmp_path, until))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert all(link is not None and link[1:] in ids for link in links)
    assert {*STAGES} <= set(ids)
    pending = page.text.count("Not yet run.")
    assert pending == len(STAGES) - (STAGES.index(until) + 1 if until else 0)


def test_nothing_is_fetched_and_nothing_runs(tmp_path: Path) -> None:
    html, page = page_of(write_workspace(tmp_path))
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed", "img", "base", "form")
        for name, value in attributes.items():
            assert name not in FETCHING, (tag, name)
            assert not name.startswith("on"), (tag, name)
            if name == "href":
                assert str(value).startswith(("#", "data:")), value
    style = html[html.index("<style>") : html.index("</style>")]
    assert "@import" not in style
    assert not re.search(r"url\(", style)


def test_what_pages_and_models_say_stays_text(tmp_path: Path) -> None:
    html, page = page_of(write_workspace(tmp_path))
    assert "<script" not in html
    assert HOSTILE in "".join(page.text)


def test_pictures_have_words(tmp_path: Path) -> None:
    _, page = page_of(write_workspace(tmp_path))
    pictures = [a for tag, a in page.tags if (tag == "svg" and "aria-hidden" not in a) or a.get("role") == "img"]
    assert len(pictures) > 10
    assert all(a.get("aria-label") for a in pictures)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_the_same_workspace_gives_the_same_page(tmp_path: Path) -> None:
    assert page_of(write_workspace(tmp_path / "tiny"))[0] == page_of(write_workspace(tmp_path / "b" / "tiny"))[0]


def test_numbers_of_the_journey_are_shown(tmp_path: Path) -> None:
    text = " ".join(" ".join(page_of(write_workspace(tmp_path))[1].text).split())
    for shown in (
        "2,334 web pages",
        "848 documents",
        "1,402,496",
        "27,197 passages of 805 training documents",
        "1.68 × 10¹³",
        "0.71",
        "Sort these words: pear, apple, fig.",
    ):
        assert shown in text, shown


def test_a_summary_that_lacks_everything_is_no_obstacle(tmp_path: Path) -> None:
    """A workspace of an older version may lack any key."""
    write_workspace(tmp_path)
    for stage in STAGES:
        write_json(tmp_path / stage / "summary.json", {})
    page_of(tmp_path)


@pytest.mark.parametrize("stage", STAGES)
def test_any_missing_key_of_a_summary_is_no_obstacle(tmp_path: Path, stage: str) -> None:
    write_workspace(tmp_path)
    whole = read_json(tmp_path / stage / "summary.json")
    for key in whole:
        write_json(tmp_path / stage / "summary.json", {name: value for name, value in whole.items() if name != key})
        write_report(tmp_path, tmp_path / "report.html")


def test_needs_no_torch(tmp_path: Path) -> None:
    write_workspace(tmp_path)
    program = (
        "import sys, pathlib; from herdsman.release.report import write_report; root = pathlib.Path(sys.argv[1]); "
        "write_report(root, root / 'report.html'); print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_compare_marks_what_differs() -> None:
    left, right = compare("one <two> three", "one <2> three four")
    assert left == "one <del>&lt;two&gt;</del> three"
    assert right == "one <ins>&lt;2&gt;</ins> three<ins> four</ins>"
    shared = " ".join(str(number) for number in range(500))
    left, right = compare(f"{shared} end", f"{shared} fin")
    assert left.endswith("499 <del>end</del>")
    assert " … " in left
    assert len(left) < len(shared) / 2


def test_chart_draws_each_line_within_its_frame() -> None:
    steps = list(range(1000))
    lines = (
        Line("a <b>", steps, [5 - step / 300 for step in steps]),
        Line("b", [0, 999], [float("nan"), 4.0], "clay", "dots"),
    )
    html = draw(LineChart("A chart", "step", "loss", lines, ((500, 999, "last"),)))
    assert html.count("<svg") == html.count("</svg>") == 2
    assert "a &lt;b&gt;" in html
    assert "nan" not in html
    wide = html[: html.index("narrow")]
    points = re.findall(r'class="line curve"[^>]*d="M([^"]*)"', wide)[0].split("L")
    assert len(points) == 400
    assert all(0 <= float(x) <= 760 and 0 <= float(y) <= 310 for x, y in (point.split() for point in points))


def test_chart_of_one_value_or_none() -> None:
    assert "<circle" in draw(LineChart("t", "x", "y", (Line("a", [3], [0.0]),)))
    assert "<path" not in draw(LineChart("t", "x", "y", (Line("a", [], []),)))


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [(0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]), (1.9, 8.2, 5, [2, 4, 6, 8]), (0, 4e-3, 4, [0, 0.001, 0.002, 0.003, 0.004])],
)
def test_ticks_are_round(low: float, high: float, most: int, expected: list[float]) -> None:
    assert ticks(low, high, most) == pytest.approx(expected)


def test_numbers_as_people_read_them() -> None:
    assert [short_number(value) for value in (0, 0.25, 1200, 1.5e6)] == ["0", "0.25", "1,200", "1.5M"]
    assert [short_count(value) for value in (999, 1.2345e6, 15.6e12)] == ["999", "1.23 M", "15.6 T"]
    assert [size(value) for value in (12, 12_340, 5.3e6)] == ["12 B", "12.3 kB", "5.3 MB"]
    assert [duration(value) for value in (3.14, 192, 7500)] == ["3.1 s", "3 min 12 s", "2 h 5 min"]
    assert power_of_ten(3.8e25) == "3.8 × 10²⁵"
    assert percent(0.1234) == "12.3%"
    assert percent(0.00001) == "<0.1%"
    assert interval(0.412, 0.38, 0.445) == "41.2% (38.0 to 44.5)"
    assert clip("one two three", 9) == "one two …"


def test_smooth_and_thin() -> None:
    assert smooth([1.0] * 50) == [1.0] * 50
    assert smooth([0.0, 1.0, 2.0, 3.0], 0.5) == pytest.approx([0.5, 1.0, 2.0, 2.5])
    assert thin(range(10_000), 5) == [0, 2500, 5000, 7499, 9999]
