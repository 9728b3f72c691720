"""Maths: whatever form a page carries it in, LaTeX comes out."""

from __future__ import annotations

import pytest

from herdsman.documents.extraction.extract import extract
from herdsman.documents.extraction.maths import mathml_to_latex, write_latex

MATHJAX = '<p>So <script type="math/tex; mode=display">\\sum_i x_i</script></p>'
KATEX = (
    '<p>A <span class="katex"><span class="katex-mathml"><math xmlns="http://www.w3.org/1998/Math/MathML">'
    "<semantics>"
    '<mrow><mi>a</mi></mrow><annotation encoding="application/x-tex">\\frac{a}{b}</annotation>'
    "</semantics></math></span>"
    '<span class="katex-html" aria-hidden="true"><span>a</span><span>b</span></span></span> here.</p>'
)
WIKIPEDIA = (
    '<p>A <span class="mwe-math-element"><span class="mwe-math-mathml-inline" style="display: none;">'
    '<math alttext="{\\displaystyle \\alpha ^{2}}"><mi>α</mi></math></span><img class="mwe-math-fallback-image-inline" '
    'alt="{\\displaystyle \\alpha ^{2}}" src="x.svg"></span> here.</p>'
)
LATEXML = '<p>A <math alttext="\\sqrt{2}" display="inline"><msqrt><mn>2</mn></msqrt></math> here.</p>'
SPHINX_IMAGE = '<p>A <img class="math" src="m.png" alt="\\int_0^1 f"> here.</p>'
BARE = "<p>A <math><msup><mi>x</mi><mn>2</mn></msup></math> here.</p>"


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (MATHJAX, r"So \[\sum_i x_i\]"),
        (KATEX, r"A \(\frac{a}{b}\) here."),
        (WIKIPEDIA, r"A \(\alpha ^{2}\) here."),
        (LATEXML, r"A \(\sqrt{2}\) here."),
        (SPHINX_IMAGE, r"A \(\int_0^1 f\) here."),
        (BARE, r"A \(x^{2}\) here."),
    ],
)
def test_formulas_of_each_kind_become_latex_once(page: str, expected: str) -> None:
    found = extract(page.encode())
    assert found.text == expected
    assert found.features["formulas"] >= 1


def test_less_than_in_a_script_is_text_and_not_markup() -> None:
    page = '<p>If <script type="math/tex">a < b</script> then it is so.</p>'
    assert extract(page.encode()).text == r"If \(a < b\) then it is so."


@pytest.mark.parametrize(
    ("mathml", "latex"),
    [
        ("<mfrac><mi>a</mi><mi>b</mi></mfrac>", r"\frac{a}{b}"),
        ("<msqrt><mi>a</mi><mo>+</mo><mi>b</mi></msqrt>", r"\sqrt{a+b}"),
        ("<mroot><mi>x</mi><mn>3</mn></mroot>", r"\sqrt[3]{x}"),
        ("<msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup>", "x_{i}^{2}"),
        ("<munderover><mo>∑</mo><mi>i</mi><mi>n</mi></munderover>", "∑_{i}^{n}"),
        ("<mi>sin</mi><mo>\u2061</mo><mi>x</mi>", r"\operatorname{sin}x"),
        ("<mtext>if</mtext>", r"\text{if}"),
        ("<mfrac><mi>a</mi></mfrac>", r"\frac{a}{}"),  # broken: a child is missing
        ("<mfrac><mi>a</mi><mi>b", r"\frac{a}{b}"),  # broken: never closed
        ("</mfrac></mfrac>x", "x"),
    ],
)
def test_presentation_mathml_reads_as_latex(mathml: str, latex: str) -> None:
    assert mathml_to_latex(mathml) == latex


def test_a_matrix_has_rows_and_columns() -> None:
    row = "<mtr><mtd><mn>1</mn></mtd><mtd><mn>0</mn></mtd></mtr>"
    assert mathml_to_latex(f"<mtable>{row}{row}</mtable>") == r"1 &amp; 0 \\ 1 &amp; 0"


def test_formulas_are_counted_and_other_images_are_left() -> None:
    markup, count = write_latex('<img class="math" alt="x"><img class="photo" alt="A dog"><math><mi>y</mi></math>')
    assert count == 2
    assert 'alt="A dog"' in markup


def test_texts_of_images_that_hold_formulas_or_drawings() -> None:
    tex, count = write_latex(r'<img src="a.png" alt="\sqrt{2}"><img src="https://x.example/latex.php?x" alt="a+b">')
    assert (tex, count) == (r"\(\sqrt{2}\)\(a+b\)", 2)
    photo = '<img src="b.png" alt="Data flows from the reader to the writer">'
    assert write_latex(photo) == (photo, 0)  # a photograph in an article
    assert write_latex(f"<pre>x</pre>{photo}")[0] == "<pre>x</pre> Data flows from the reader to the writer "


def test_what_mathjax_2_rendered_does_not_say_the_formula_again() -> None:
    page = '<span class="MathJax" id="m"><span class="math">x2</span></span><script type="math/tex">x^2</script>'
    assert write_latex(page) == (r"\(x^2\)", 1)
