"""How fast and how well pages become text: Herdsman beside the public extractors, interleaved in one run.

    pip install trafilatura rs-trafilatura readability-lxml etrafilatura   # the last for Python 3.12 and newer
    python benchmarks/refinery/extraction.py FOLDER [--rounds 3] [--pages 4000] [--slow-pages 400]

Needs Debian 12 or a container of it for the documentation pages, which are kept in FOLDER. Extractors that are not
installed are left out with a note. All get the same pages as UTF-8 and are told so. What is measured:

- Speed: pages a CPU-second on documentation pages of 25 kB, the slow extractors on every tenth of them; the median of
  the rounds, and the median of Herdsman's speed over theirs in each round.
- F1 on annotated news, blog and shop pages: shingles of 4 words, true and false positives and false negatives of a page
  divided by their sum, precision and recall averaged over pages, F1 of the two averages (as the public article
  extraction benchmark has it). A character of Chinese, Japanese or Thai counts as a word.
- Code: `<pre>` blocks of the documentation pages that appear in the output as they are, line by line, blanks at the end
  of lines and empty lines around aside. Counted are blocks of two lines and more that are not in navigation, header,
  footer or aside and hold no images, line breaks or blocks as elements, at most 20 a page; and no page more than half
  of whose text is links.
- Maths: encodings of one formula, each in a page of its own, whose LaTeX is in the output, blanks aside.

Prints the results as JSON, then as a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from html import escape
from importlib import import_module
from operator import truediv
from pathlib import Path
from statistics import mean, median
from typing import Any

from annotated import NPM, Page, all_text, articles, documentation
from resiliparse.parse.html import HTMLTree

from herdsman.documents.extraction.extract import extract

Extractor = Callable[[bytes], str]
OURS, FAST = "herdsman", ("herdsman", "resiliparse", "resiliparse, all text")
WORD = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]|[^\W\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]+")
BLOCKS_A_PAGE = 20
RESILIPARSE = "resiliparse.extract.html2text"

TEX = r"\frac{a+b}{\sqrt{c}} = x^{2}"
KEPT = re.compile(r"\\frac\{a\+b\}\{\\sqrt\{c\}\}=x\^\{?2\}?")
MROW = (
    "<mrow><mfrac><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><msqrt><mi>c</mi></msqrt></mfrac><mo>=</mo>"
    "<msup><mi>x</mi><mn>2</mn></msup></mrow>"
)
ANNOTATED = f'<semantics>{MROW}<annotation encoding="application/x-tex">{TEX}</annotation></semantics>'
GLYPHS = (
    '<span class="katex-html" aria-hidden="true"><span class="base"><span class="strut"></span><span class="mord">'
    '<span class="mfrac"><span class="mord sqrt">c</span><span class="mord">a</span><span class="mbin">+</span>'
    '<span class="mord">b</span></span></span><span class="mrel">=</span><span class="mord">x</span>'
    '<span class="msupsub">2</span></span></span>'
)
MATHS = {
    "KaTeX": f'<span class="katex"><span class="katex-mathml"><math>{ANNOTATED}</math></span>{GLYPHS}</span>',
    "KaTeX without MathML": '<span class="katex"><span class="katex-mathml"><annotation encoding="application/x-tex">'
    f"{TEX}</annotation></span>{GLYPHS}</span>",
    "MathJax 2": f'<span class="MathJax_Preview"></span><script type="math/tex" id="MathJax-Element-1">{TEX}</script>',
    "MathJax 2, display": f'<div class="MathJax_Display"></div><script type="math/tex; mode=display">{TEX}</script>',
    "MathJax 3, source": rf"\({TEX}\)",
    "MathJax 3, rendered": '<mjx-container class="MathJax" jax="CHTML"><mjx-math aria-hidden="true"><mjx-mfrac>'
    f"</mjx-mfrac></mjx-math><mjx-assistive-mml><math>{MROW}</math></mjx-assistive-mml></mjx-container>",
    "MathML with TeX": f"<math>{ANNOTATED}</math>",
    "MathML": f'<math xmlns="http://www.w3.org/1998/Math/MathML">{MROW}</math>',
    "LaTeXML": f'<math class="ltx_Math" alttext="{TEX}" display="inline">{MROW}</math>',
    "Wikipedia": '<span class="mwe-math-element"><span class="mwe-math-mathml-inline mwe-math-mathml-a11y" '
    f'style="display: none;"><math alttext="{{\\displaystyle {TEX}}}">{ANNOTATED}</math></span><img src="render/1.svg" '
    f'class="mwe-math-fallback-image-inline" aria-hidden="true" alt="{{\\displaystyle {TEX}}}"></span>',
    "Sphinx, images": f'<img class="math" src="_images/math/1a2b.png" alt="{TEX}">',
    "Sphinx, MathJax": rf'<span class="math notranslate nohighlight">\({TEX}\)</span>',
    "WordPress": f'<img src="https://s0.wp.com/latex.php?latex=1" alt="{escape(TEX)}" class="latex">',
}
MATHS_PAGE = """<!DOCTYPE html><html lang="en"><head><title>Distances in a lattice</title></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/notes">Notes</a></li></ul></nav>
<main><article><h1>Distances in a lattice</h1>
<p>Two points of a lattice that are joined by a bond attract each other, and how strongly they do depends on the length
of the bond alone. We measured it for every bond of the sample and found the same law each time.</p>
<p>The law says that %s holds for each pair of points, as long as the lattice is not under load.</p>
<p>Under load the bonds along the axis become longer and those across it shorter, and the law no longer holds; what is
left of it then is an estimate, which the next section improves with the second moment of the load.</p>
</article></main><footer><p>Printed with care. <a href="/imprint">Imprint</a></p></footer></body></html>"""


PEERS: dict[str, tuple[str, str, Callable[[Any, str], str | None]]] = {
    "resiliparse": (RESILIPARSE, "extract_plain_text", lambda run, page: run(page, main_content=True)),
    "resiliparse, all text": (RESILIPARSE, "extract_plain_text", lambda run, page: run(page)),
    "trafilatura": ("trafilatura", "extract", lambda run, page: run(page)),
    "trafilatura, fast": ("trafilatura", "extract", lambda run, page: run(page, fast=True, include_comments=False)),
    "etrafilatura": ("etrafilatura", "extract", lambda run, page: run(page)),
    "rs-trafilatura": ("rs_trafilatura", "extract", lambda run, page: run(page).main_content),
    "readability": ("readability", "Document", lambda run, page: all_text(run(page).summary())),
}  # fmt: skip


def extractors() -> tuple[dict[str, Extractor], list[str]]:
    """The extractors that are installed, and the names of those that are not."""
    found: dict[str, Extractor] = {OURS: lambda content: extract(content, "text/html; charset=utf-8").text}
    missing = []
    for name, (module, attribute, call) in PEERS.items():
        try:
            run = getattr(import_module(module), attribute)
        except ImportError:
            missing.append(name)
            continue
        found[name] = lambda content, run=run, call=call: call(run, content.decode()) or ""  # type: ignore[misc]
    return found, missing


def tried(run: Extractor, content: bytes) -> str:
    """The text of a page; none where the extractor fails."""
    try:
        return run(content)
    except Exception:
        return ""


def speeds(found: dict[str, Extractor], pages: list[bytes], slow: list[bytes], rounds: int) -> dict[str, list[float]]:
    """Pages a CPU-second of every extractor in every round."""
    measured = defaultdict(list)
    for _ in range(rounds):
        for name, run in found.items():
            some = pages if name in FAST else slow
            tried(run, some[0])
            started = time.process_time()
            for content in some:
                tried(run, content)
            measured[name].append(len(some) / (time.process_time() - started))
    return dict(measured)


def shingles(text: str) -> Counter[tuple[str, ...]]:
    words = WORD.findall(text)
    return Counter(tuple(words[start : start + 4]) for start in range(max(1, len(words) - 3)) if words)


def accuracy(run: Extractor, pages: list[Page]) -> dict[str, tuple[float, float, float]]:
    """F1, precision and recall over all pages and over each set."""
    groups = defaultdict(list)
    for page in pages:
        right, given = shingles(page.text), shingles(tried(run, page.html.encode("utf-8", "replace")))
        common = (right & given).total()
        for group in ("all", page.group):
            groups[group].append((common / max(1, given.total()), common / max(1, right.total())))
    means = {group: [mean(part) for part in zip(*pairs, strict=True)] for group, pairs in groups.items()}
    return {group: (round(2 * p * r / ((p + r) or 1), 4), round(p, 4), round(r, 4)) for group, (p, r) in means.items()}


def tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.replace("\xa0", " ").split("\n"))


def code_blocks(content: bytes) -> list[str]:
    """The `<pre>` blocks of a page that count: see the top of this file."""
    tree = HTMLTree.parse(content.decode())
    if tree.body is None:
        return []
    linked = sum(len(anchor.text or "") for anchor in tree.body.get_elements_by_tag_name("a"))
    if linked > len(all_text(content.decode())) / 2:
        return []
    blocks = []
    for element in tree.body.query_selector_all("pre:not(nav pre, header pre, footer pre, aside pre, pre pre)"):
        block = tidy(element.text or "").strip("\n")
        if "\n" in block and not element.query_selector("br, img, div, p, table"):
            blocks.append(block)
    return blocks[:BLOCKS_A_PAGE]


def code_kept(run: Extractor, pages: list[tuple[bytes, list[str]]]) -> float:
    kept = [block in text for content, blocks in pages for text in [tidy(tried(run, content))] for block in blocks]
    return round(mean(kept), 4)


def maths_kept(run: Extractor) -> list[str]:
    return [
        name
        for name, markup in MATHS.items()
        if KEPT.search(re.sub(r"\s", "", tried(run, (MATHS_PAGE % markup).encode())))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures extraction beside the public extractors.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pages", type=int, default=4_000)
    parser.add_argument("--slow-pages", type=int, default=400)
    parser.add_argument("--npm", default=NPM, help="address of the npm registry")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)

    found, missing = extractors()
    pages = [content.decode("utf-8", "replace").encode() for content in documentation(options.folder, options.pages)]
    slow = pages[:: max(1, len(pages) // options.slow_pages)]
    annotated = articles(options.npm)
    with_code = [(content, blocks) for content in slow if (blocks := code_blocks(content))]
    measured = speeds(found, pages, slow, options.rounds)
    results: dict[str, Any] = {
        "pages": len(pages),
        "bytes_a_page": round(mean(map(len, pages))),
        "slow_pages": len(slow),
        "annotated_pages": dict(Counter(page.group for page in annotated)),
        "code_blocks": sum(len(blocks) for _, blocks in with_code),
        "maths_encodings": len(MATHS),
        "not_installed": missing,
        "extractors": {
            name: {
                "pages_a_cpu_second": round(median(measured[name]), 1),
                "herdsman_over_it": round(median(map(truediv, measured[OURS], measured[name])), 2),
                "accuracy": accuracy(run, annotated),
                "code_exact": code_kept(run, with_code),
                "maths": maths_kept(run),
            }
            for name, run in found.items()
        },
    }
    print(json.dumps(results))
    groups = results["annotated_pages"]
    heads = ["extractor", "pages a CPU-second", "herdsman over it", f"F1, {len(annotated)} pages"]
    heads += ["precision", "recall", *(f"{group}, {count}" for group, count in groups.items())]
    heads += [f"code exact, {results['code_blocks']}", f"maths of {len(MATHS)}"]
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, row in results["extractors"].items():
        shares = [*row["accuracy"]["all"], *(row["accuracy"][group][0] for group in groups), row["code_exact"]]
        cells = [name, f"{row['pages_a_cpu_second']:,.0f}", f"{row['herdsman_over_it']:.2f}"]
        print(f"| {' | '.join([*cells, *(f'{share:.3f}' for share in shares), str(len(row['maths']))])} |")
    print("".join(f"\n{name} is not installed: left out." for name in missing))


if __name__ == "__main__":
    main()
