"""From the bytes of a page to clean, well-formed markup: decoding as browsers do, and parsing that cannot blow up."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5
from resiliparse.parse.html import HTMLTree

from herdsman.documents.hostile import refuse_hostile
from herdsman.documents.maths import write_latex

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_WHATWG_SUPERSETS = {
    "shift_jis": "cp932",
    "gbk": "gb18030",
    "euc-kr": "cp949",
    "euc_kr": "cp949",
    "iso8859-11": "cp874",
}
_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([\w.:-]+)", re.I)
_META_CHARSET = re.compile(rb"<meta[^>]{0,300}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.I)
# Control characters are never text, and free for us to mark links with.
_CONTROLS = re.compile("[\0-\x08\x0b\x0e-\x1f\x7f-\x9f]+")
_CONTROL_BYTES = bytes(code for code in (*range(0x20), 0x7F) if chr(code) not in "\t\n\f\r")
_C1_BYTES = re.compile(rb"\xc2[\x80-\x9f]")  # U+0080 to U+009F in UTF-8

# What is never content, whatever page it is on. Elements first, then names that generators and site kits agree on.
_UNSEEN = (
    "script:not([type^='math/tex']), style, template, noscript, iframe, noembed, noframes, svg, canvas, object, embed,"
    "video, audio, map, link, meta, title"
)
_NEVER_CONTENT = (
    "button, select, textarea, datalist, input, progress, meter, dialog,"
    "[role=navigation], [role=search], [role=menu], [role=menubar], [role=dialog], [role=alertdialog], [role=tablist],"
    "[hidden], [style*='display:none']:not([class*=math]), [style*='display: none']:not([class*=math]),"
    "span[aria-hidden=true]:not([class*=math]), a[aria-hidden=true], i[aria-hidden=true],"
    ".headerlink, .anchor-link, .anchorjs-link, .permalink, .viewcode-link, .viewcode-back, .linenos, .linenodiv,"
    ".lineno, .line-numbers-rows, .blob-num, .gutter, .MathJax, .MathJax_Preview, .MathJax_Display, .MathJax_SVG,"
    "mjx-math, .katex-html, .sr-only, .visually-hidden, .visuallyhidden, .screen-reader-text, .onlyprint, .print-only,"
    ".skip-link, .mw-editsection, .mw-jump-link, .navbox, .noprint"
)
_LAYOUT_TABLES = "table:has(table, pre, h1, h2, h3, h4, ul, ol, dl, blockquote, hr, form, p + p, div + div)"


@dataclass(frozen=True)
class Markup:
    """A page as well-formed markup without scripts, styles and chrome, and what was seen on the way.

    Attributes:
        html: the serialised body; attribute values are quoted, `<` and `>` in them escaped, every tag closed.
        title: text of the `title` element, or "".
        body_chars: characters of all visible text of the body, boilerplate included, white space not.
        formulas: formulas found and written as LaTeX.
        undecodable: share of characters that the page's encoding could not decode.
    """

    html: str
    title: str
    body_chars: int
    formulas: int
    undecodable: float


def decode(html: bytes, content_type: str = "") -> str:
    """The page as text: byte order mark, HTTP header, `meta` tag, then statistics (the WHATWG order)."""
    for bom, encoding in _BOMS:
        if html.startswith(bom):
            return html[len(bom) :].decode(encoding, "replace")
    declared = _declared(_CHARSET.search(content_type)) or _declared(_META_CHARSET.search(html[:4096]))
    name: str = declared or detect_encoding(html) or "utf-8"
    encoding = _WHATWG_SUPERSETS.get(name, name)
    try:
        return html.decode(encoding, "replace")
    except LookupError:
        return bytes_to_str(html, "utf-8", "replace")


def _declared(match: re.Match[str] | re.Match[bytes] | None) -> str | None:
    if match is None:
        return None
    label = match[1].decode("ascii", "replace") if isinstance(match[1], bytes) else match[1]
    encoding = map_encoding_to_html5(label.lower(), fallback_utf8=False)
    # A page whose `meta` tag could be read byte by byte is not UTF-16, whatever the tag says (WHATWG 13.2.3.2).
    return "utf-8" if encoding and encoding.startswith("utf-16") else encoding


def _without_controls(text: str) -> str:
    encoded = text.encode("utf-8", "surrogatepass")
    if len(encoded.translate(None, _CONTROL_BYTES)) == len(encoded) and not _C1_BYTES.search(encoded):
        return text  # nearly always, and found out five times faster than by the expression on text
    return _CONTROLS.sub("", text)


def read_markup(html: bytes, content_type: str = "") -> Markup:
    """Parses a page and hands back its body as well-formed markup, free of what is never content.

    Raises:
        HostileMarkup: see `refuse_hostile`.
    """
    text = _without_controls(decode(html, content_type))
    refuse_hostile(text)
    undecodable = text.count("\ufffd") / max(len(text), 1)
    tree = HTMLTree.parse(text)
    body = tree.body
    if body is None:
        return Markup("", (tree.title or "").strip(), 0, 0, undecodable)
    for element in body.query_selector_all(_UNSEEN).values():
        element.decompose()
    body_chars = len("".join((body.text or "").split()))
    for table in body.query_selector_all(_LAYOUT_TABLES).values():
        table.setattr("data-layout", "")
    for element in body.query_selector_all(_NEVER_CONTENT).values():
        element.decompose()
    markup, formulas = write_latex(body.html)
    return Markup(markup, " ".join((tree.title or "").split()), body_chars, formulas, undecodable)
