"""From the bytes of a page to clean, well-formed markup: decoding as browsers do, and parsing that cannot blow up."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5
from resiliparse.parse.html import HTMLParserException, HTMLTree

from herdsman.documents.extraction.elements import end_of_element
from herdsman.documents.extraction.hostile import HostileMarkup, refuse_hostile
from herdsman.documents.extraction.maths import write_latex

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

# What is never content, whatever page it is on. In well-formed markup none of these can hold its own end tag in text.
_UNSEEN = re.compile(
    r"<(?=[a-x!])(s(?:cript|tyle|vg|elect)|te(?:mplate|xtarea)|no(?:script|embed|frames)|iframe|canvas|object|video"
    r"|audio|map|button|d(?:atalist|ialog)|p(?:rogress|laintext)|meter|xmp|!--)(?=[\s>]|(?<=-))"
)
_PREFORMATTED = frozenset({"xmp", "plaintext"})  # these are content, after all
_RAW = frozenset({"script", "style", "iframe", "noembed", "noframes"}) | _PREFORMATTED  # whose text may hold any tag


@dataclass(frozen=True)
class Markup:
    """A page as well-formed markup without scripts, styles and chrome, and what was seen on the way.

    Attributes:
        html: the serialised body; attribute values are quoted, `<` and `>` in them escaped, every tag closed.
        title: text of the `title` element, or "".
        formulas: formulas found and written as LaTeX.
        undecodable: share of characters that the page's encoding could not decode.
    """

    html: str
    title: str
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
        HostileMarkup: see `refuse_hostile`; also where the parser gives up, as it does when memory runs out.
    """
    text = _without_controls(decode(html, content_type))
    refuse_hostile(text)
    undecodable = text.count("\ufffd") / max(len(text), 1)
    try:
        tree = HTMLTree.parse(text)
    except HTMLParserException as error:
        raise HostileMarkup("the parser gave up on it") from error
    body = tree.body
    title = " ".join((tree.title or "").split())
    if body is None:
        return Markup("", title, 0, undecodable)
    serialised: str = body.html
    if "&#" in text:  # by number a control character gets through the parser
        serialised, title = _without_controls(serialised), _without_controls(title)
    markup, formulas = write_latex(serialised)
    return Markup(_without_unseen(markup), title, formulas, undecodable)


def _without_unseen(markup: str) -> str:
    pieces, at = list[str](), 0
    for match in _UNSEEN.finditer(markup):
        if match.start() >= at:
            name = match[1]
            if name == "!--":
                end = markup.find("-->", match.end()) + 3
            elif name in _RAW:
                end = markup.find(f"</{name}>", match.end()) + len(name) + 3
            else:
                end = end_of_element(markup, name, match.end())
            pieces.append(markup[at : match.start()])
            if name in _PREFORMATTED:
                text = markup[markup.find(">", match.end()) + 1 : end - len(name) - 3]
                pieces.append(f"<pre>{text.replace('&', '&amp;').replace('<', '&lt;')}</pre>")
            at = end
    pieces.append(markup[at:])
    return "".join(pieces)
