"""Extraction: main content kept, code verbatim, navigation gone."""

from __future__ import annotations

import pytest

from herdsman.documents.extraction.blocks import CODE, ITEM, PROSE, ROW, TERM
from herdsman.documents.extraction.extract import extract
from herdsman.documents.extraction.markup import read_markup
from herdsman.documents.extraction.reader import read_blocks

CODE_BLOCK = """def visit(node, depth=0):
    # indented by four,  two spaces here
\tif depth > 3 and node is not None:
        return "<leaf>" &  1

    return [visit(child, depth + 1)   for child in node]"""

SPHINX_PAGE = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Walking trees — Woodland 2.1 documentation</title>
<script>var DOCUMENTATION_OPTIONS = {{}};</script><style>p {{ color: red }}</style></head>
<body>
<div class="related" role="navigation"><ul><li><a href="g.html">index</a></li><li><a href="n.html">next</a></li>
<li><a href="p.html">previous</a></li><li><a href="i.html">Woodland 2.1</a></li></ul></div>
<div class="document"><div class="documentwrapper"><div class="bodywrapper"><div class="body" role="main">
<section id="walk"><h1>Walking trees<a class="headerlink" href="#walk" title="Link">¶</a></h1>
<p>A tree is walked from its root to its leaves. Every node is seen <em>exactly once</em>, and the order in which
nodes are seen depends on the <a href="order.html">strategy</a> that the caller has chosen.</p>
<h2>Depth first<a class="headerlink" href="#depth">¶</a></h2>
<p>The simplest strategy goes down before it goes sideways, which needs memory in proportion to the depth:</p>
<div class="highlight-python"><div class="highlight"><pre>{
    CODE_BLOCK.replace("&", "&amp;").replace("<", "&lt;").replace("visit", '<span class="nf">visit</span>')
}
</pre></div></div>
<ul class="simple"><li><p>children are seen from left to right</p></li><li><p>a leaf has no children</p></li></ul>
<ol start="3"><li>third</li><li>fourth</li></ol>
<table><thead><tr><th>Strategy</th><th>Memory</th></tr></thead>
<tbody><tr><td>depth first</td><td>depth</td></tr><tr><td>breadth first</td><td>width</td></tr></tbody></table>
<dl><dt>root(<em>tree</em>)</dt><dd><p>The node without a parent,
of which each tree has exactly one and no more.</p></dd></dl>
<p>An estimate of 10<sup>6</sup> nodes &amp; 5 &lt; 7 edges is usual for trees that are read from a large archive.</p>
</section></div></div></div>
<div class="sphinxsidebar" role="navigation"><h3>Table of Contents</h3><ul><li><a href="#a">Walking trees</a></li>
<li><a href="#b">Depth first</a></li></ul><h3>Quick search</h3><form><input type="text"></form></div></div>
<div class="footer">© Copyright 2024, The Foresters. Created using Sphinx 7.2.</div>
</body></html>"""


def test_a_documentation_page_line_by_line() -> None:
    found = extract(SPHINX_PAGE.encode())
    assert found.title == "Walking trees"
    assert found.text == (
        "Walking trees\n\n"
        "A tree is walked from its root to its leaves. Every node is seen exactly once, and the order in which nodes "
        "are seen depends on the strategy that the caller has chosen.\n\n"
        "Depth first\n\n"
        "The simplest strategy goes down before it goes sideways, which needs memory in proportion to the depth:\n\n"
        f"{CODE_BLOCK}\n\n"
        "• children are seen from left to right\n• a leaf has no children\n\n"
        "3. third\n4. fourth\n\n"
        "Strategy | Memory\ndepth first | depth\nbreadth first | width\n\n"
        "root(tree)\nThe node without a parent, of which each tree has exactly one and no more.\n\n"
        "An estimate of 10^6 nodes & 5 < 7 edges is usual for trees that are read from a large archive."
    ).replace("no children\n\n3. third", "no children\n3. third")
    kinds = [kind for kind in found.kinds if kind != " "]
    assert kinds[:4] == ["1", PROSE, "2", PROSE]
    assert kinds.count(CODE) == CODE_BLOCK.count("\n") + 1
    assert kinds.count(ITEM) == 4
    assert kinds.count(ROW) == 3
    assert kinds.count(TERM) == 1


def test_kinds_have_one_character_a_line() -> None:
    found = extract(SPHINX_PAGE.encode())
    lines = found.text.split("\n")
    assert len(found.kinds) == len(lines)
    code = [line for line, kind in zip(lines, found.kinds, strict=True) if kind == CODE]
    assert code == CODE_BLOCK.split("\n")
    assert all(line == "" for line, kind in zip(lines, found.kinds, strict=True) if kind == " ")


def test_features_count_what_is_there() -> None:
    features = extract(SPHINX_PAGE.encode()).features
    assert features["code_chars"] == len(CODE_BLOCK)
    assert features["links"] == 1
    assert features["link_chars"] == len("strategy")
    assert (features["headings"], features["rows"], features["terms"]) == (2, 3, 1)
    assert 0.7 < features["kept_share"] < 1


def test_a_page_without_any_hint_of_structure() -> None:
    prose = "The river rose in the night and by morning the lower fields were under water as far as the mill. " * 3
    menu = "".join(f'<div><a href="/{name}">{name}</a></div>' for name in ("Home", "News", "Shop", "Contact", "Login"))
    page = f"<html><body><div>{menu}</div><div><div>{prose}</div><div>{prose}</div></div></body></html>"
    text = extract(page.encode()).text
    assert text.count("lower fields") == 6
    assert "Shop" not in text


def test_comments_sidebars_and_consent_are_dropped_around_an_article() -> None:
    prose = "The mill was built of stone from the quarry above the village, and it stood there for two hundred years. "
    page = f"""<body><div id="cookie-banner" class="consent">We use cookies to improve your visit on this site.</div>
    <article><h1>The mill</h1><p>{prose * 3}</p><div class="share"><a>Post</a> <a>Mail</a></div>
    <p>{prose * 2}</p></article>
    <div class="sidebar"><h3>Popular</h3><p>{prose}</p></div>
    <div class="comments"><p>First! Great read, thanks.</p></div>
    <footer>All rights reserved.</footer></body>"""
    text = extract(page.encode()).text
    assert text.count("quarry") == 5
    for chrome in ("cookies", "Popular", "First!", "rights", "Mail"):
        assert chrome not in text


@pytest.mark.parametrize(
    "section",
    [
        '<section id="cookies">',
        '<div class="section" id="sharing">',
        '<div id="search" class="section level2">',
        '<article class="post tag-social category-ads">',
    ],
)
def test_sections_about_cookies_are_no_consent_banners(section: str) -> None:
    prose = "A cookie is a small piece of text that a server asks a browser to keep and to send back to it later on. "
    end = section[1:].split()[0]
    page = f"<main><p>{prose * 9}</p>{section}<h2>Cookie objects</h2><p>They are jars: {prose}</p></{end}></main>"
    assert "They are jars" in extract(page.encode()).text


@pytest.mark.parametrize(
    ("encoding", "content_type", "meta"),
    [
        ("utf-8", "", ""),
        ("utf-8-sig", "text/html; charset=latin-1", ""),  # the mark wins over the header
        ("utf-16", "", ""),
        ("cp1252", "text/html; charset=ISO-8859-1", ""),  # browsers read Latin-1 as Windows-1252
        ("cp1252", "", '<meta http-equiv="Content-Type" content="text/html; charset=windows-1252">'),
        ("utf-8", "", '<meta charset="utf-16">'),  # a tag that could be read is not in UTF-16
        ("utf-8", "text/html; charset=no-such-thing", '<meta charset="utf-8">'),
    ],
)
def test_encodings_are_found_as_browsers_find_them(encoding: str, content_type: str, meta: str) -> None:
    page = f"<html><head>{meta}</head><body><p>Größe – “naïve” café, 100 €</p></body></html>"
    found = extract(page.encode(encoding), content_type)
    assert found.text == "Größe – “naïve” café, 100 €"
    assert found.features["undecodable"] == 0


def test_east_asian_encodings() -> None:
    text = "日本語の文章を正しく読み取ることができるかどうかを確かめるための試験です。"
    for encoding, label in (("cp932", "Shift_JIS"), ("euc-jp", "EUC-JP"), ("iso-2022-jp", "ISO-2022-JP")):
        assert extract(f"<p>{text}</p>".encode(encoding), f"text/html; charset={label}").text == text


def test_control_characters_are_no_text() -> None:
    page = "<p>a\x01b\x7fc\x85d\x9fe\x00f\x1bg¶ \u2028h\tk</p>"
    assert extract(page.encode(), "text/html; charset=utf-8").text == "abcdefg¶ h k"
    assert extract(b"<p>a\x02b</p>").text == "ab"


PROSE_TEXT = "The mill was built of stone from the quarry above the village, and it stood there for two hundred years. "


def test_teasers_of_other_articles_do_not_pass_for_the_article() -> None:
    teaser = (
        f'<article><h3><a href="/x">Floods again</a></h3><div class="entry-content">{PROSE_TEXT * 3}</div></article>'
    )
    page = f"""<body><div class="column"><h1>The mill</h1><p>{PROSE_TEXT * 4}</p></div>
    <aside class="sidebar"><div class="navigation">{teaser * 5}</div></aside></body>"""
    text = extract(page.encode()).text
    assert text.count("quarry") == 4
    assert "Floods" not in text


def test_a_body_of_text_speaks_against_the_name_around_it() -> None:
    page = f"""<div class="story-metadata-share"><div class="article-body"><p>{PROSE_TEXT * 5}</p></div></div>
    <div class="share">Post Mail</div>"""
    assert extract(page.encode()).text.count("quarry") == 5


def test_what_a_program_was_to_show_is_read_if_there_is_nothing_else() -> None:
    page = f'<div style="display: none"><p>{PROSE_TEXT * 60}</p></div><p>Please wait.</p>'
    assert extract(page.encode()).text.count("quarry") == 60
    shown = f'<div style="display: none"><p>Subscribe now, {PROSE_TEXT}</p></div><p>{PROSE_TEXT * 9}</p>'
    assert "Subscribe" not in extract(shown.encode()).text


def test_names_dates_and_links_around_an_article_are_left_out_and_inside_it_are_kept() -> None:
    page = f"""<article><p>By Jane Miller</p><p>March 4, 2026, 10:31</p><p>{PROSE_TEXT * 2}</p>
    <p>It burned on March 4, 1911.</p><p>Advertisement</p><p>{PROSE_TEXT * 2}</p><p>Tags: mills, stone</p>
    <p><a href="/">More of our stories about mills</a></p></article>"""
    assert extract(page.encode()).text == "\n\n".join(
        [(PROSE_TEXT * 2).strip(), "It burned on March 4, 1911.", (PROSE_TEXT * 2).strip()]
    )


def test_short_lines_of_a_page_of_code_are_kept() -> None:
    page = f"<main><p>Version 2.1, March 4, 2026</p><p>{PROSE_TEXT}</p><pre>make mill</pre><p>Since 1.2</p></main>"
    text = extract(page.encode()).text
    assert "Version 2.1" in text
    assert text.endswith("Since 1.2")


def test_a_table_that_turns_out_to_lay_out_loses_no_cell_and_no_neighbour() -> None:
    page = f"""<main><table><tr><td>left</td><td><ul><li>one</li><li>two</li></ul></td></tr>
    <tr><td class="nav">menu</td><td>right</td></tr></table><p>{PROSE_TEXT}</p></main>"""
    text = extract(page.encode()).text
    assert [word for word in ("left", "one", "two", "right", "quarry") if word not in text] == []
    data = f'<main><table><tr><td class="nav"><div>a</div></td><td>b</td></tr></table><p>{PROSE_TEXT}</p></main>'
    assert extract(data.encode()).text.startswith("a | b\n\nThe mill")


def test_elements_without_an_end_hold_nothing() -> None:
    page = f'<article><meta class="copyright"><hr class="ads"><p>{PROSE_TEXT * 3}</p></article>'
    assert extract(page.encode()).text.count("quarry") == 3


def test_joiners_that_persian_is_written_with_are_kept() -> None:
    assert (
        extract("<p>می\u200cخواهم so\u00adft\u200b</p>".encode(), "text/html; charset=utf-8").text
        == "می\u200cخواهم soft"
    )


def test_markdown_on_request() -> None:
    plain, marked = extract(SPHINX_PAGE.encode()), extract(SPHINX_PAGE.encode(), markdown=True)
    assert "# Walking trees\n" in marked.text
    assert "\n## Depth first\n" in marked.text
    assert f"```\n{CODE_BLOCK}\n```" in marked.text
    assert "- children are seen from left to right\n" in marked.text
    assert "| Strategy | Memory |\n| --- | --- |\n| depth first | depth |\n" in marked.text
    assert len(marked.kinds) == marked.text.count("\n") + 1
    assert plain.features == marked.features


def test_code_is_content_in_a_box_beside_the_text_and_below_a_section_that_holds_most_of_it() -> None:
    prose = "The firewall reads its rules once, when the interface comes up, and keeps them until it goes down. " * 3
    found = extract(
        f"<main><section id='rules'><h2>Rules</h2><div class='body'>{f'<p>{prose}</p>' * 12}</div></section>"
        "<div class='sidebar'><p>In short</p><pre>up /sbin/rules eth0\n    500 100</pre></div>"
        "<section id='more'><h2>More</h2><pre>down /sbin/rules</pre></section></main>".encode()
    )
    assert "up /sbin/rules eth0\n    500 100" in found.text
    assert "down /sbin/rules" in found.text


def test_inline_elements_join_words_and_unseen_ones_leave_nothing() -> None:
    found = extract(
        b"<p>A <b>bold</b> <i>word</i>, a<span>b</span>c, x<sup>2</sup><sub><span>i</span></sub>, "
        b"<a href='#x'>a link</a><a class='headerlink' href='#y'> \xc2\xb6 </a>, 1<sup>st</sup>\xe2\x80\x8b "
        b"<span class='sr-only'>said <span>twice</span></span><i aria-hidden='true'>*</i> and the end.</p>"
        b"<xmp>if (a<b) <i>\n  run</xmp><pre><span class='linenos'>1</span>first<br>x<sup>2</sup></pre>"
    )
    assert found.text == ("A bold word, abc, x^2_i, a link, 1st and the end.\n\nif (a<b) <i>\n  run\n\nfirst\nx^2")


def text_of(body: str) -> str:
    return extract(f"<main>{body}</main>".encode(), "text/html; charset=utf-8").text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<p>before</p><bgsound hidden src='x'><keygen hidden><p>after</p>", "before\n\nafter"),
        ("<div title='The hidden cost'><p>seen</p></div><div data-style='display:none'>too</div>", "seen\n\ntoo"),
        ("<pre><div><span>a\n</span></div><div>b<br></div><div></div><div>c</div></pre>", "a\nb\nc"),
        ("<p>He said <q>hello</q>, <ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp>字</ruby>.</p>", "He said hello, 漢字."),
        ("<p>a&#1;b&#4;c&#27;d</p>", "abcd"),
        ("<p>b<sup>&lt;</sup>, x<sup>&nbsp;</sup>, y<sup style='display:none'>1</sup>.</p>", "b^<, x , y."),
        ("<svg><svg></svg><text>leak</text></svg><object><object>x</object><p>leak</p></object><p>seen</p>", "seen"),
        ("<xmp>&lt;b> &amp;</xmp>", "&lt;b> &amp;"),
        ("<p>foo<a href='x'> </a>bar, C<a href='x'>#</a>, end<a href='#y'>#</a></p>", "foo bar, C#, end"),
    ],
)  # fmt: skip
def test_odd_markup_is_read_as_a_browser_shows_it(body: str, text: str) -> None:
    assert text_of(body) == text


def test_formulas_are_counted_once_and_not_in_code() -> None:
    script = '<script type="math/tex">x^{2}</script>'
    page = f"<main><p>{PROSE_TEXT} {script} and {script}</p><pre>grep '\\(a\\)' '\\[x\\]'</pre></main>"
    assert extract(page.encode()).features["formulas"] == 2


def test_links_of_a_table_that_lays_out_are_links() -> None:
    page = "<main><table><tr><td><a href='/a'>Alpha</a> mill</td><td><h3>x</h3></td></tr></table></main>"
    blocks, _ = read_blocks(read_markup(page.encode()).html)
    assert [(block.text, block.links, block.link_chars) for block in blocks] == [("Alpha mill", 1, 5), ("x", 0, 0)]
