"""Maths in HTML as LaTeX: whatever annotation the page carries, else the MathML itself read as LaTeX."""

from __future__ import annotations

import re
from html import unescape

from herdsman.documents.extraction.elements import end_of_element, without_spans

_TEX_SCRIPT = re.compile(r'<script type="math/tex([^"]*)"[^>]*>(.*?)</script>', re.S)
_MATHML = re.compile(r"<math\b([^>]*)>(.*?)</math>", re.S)
_ANNOTATION = re.compile(
    r'<annotation\s[^>]*?encoding="(?:application/x-|text/)tex"[^>]*>(.*?)</annotation>', re.S | re.I
)
_ALT_TEXT = re.compile(r'\balttext="([^"]*)"')
_IMAGE = re.compile(r'<img\b([^>]*?)\balt="([^"]+)"([^>]*)>')
_IMAGE_OF_MATHS = re.compile(
    r'\bclass="[^"]*\b(?:math|latex|tex|mwe-math-fallback-image-\w+)\b|\bsrc="[^"]*(?:latex\.php|latex\.codecogs|mathtex)'
)
_TEX = re.compile(r"\\[a-zA-Z]{2,}|[_^]\{")
_WORDS = re.compile(r"[^\W\d_]{2,}")
_ALT_WORDS = 5  # from which on the text of an image tells more than the name of a file or an icon
_WIKI_FALLBACK = re.compile(r'<img\b[^>]*\bclass="[^"]*mwe-math-fallback-image[^>]*>')
_RENDERED = re.compile(r'<(span|div)\s(?:[^>]*\s)?class="(?:[^"]*\s)?MathJax(?:_\w+)?[" ][^>]*>')
_COMMAND_AT_END = re.compile(r"\\[a-zA-Z]+\Z")
_TOKEN = re.compile(r"<(/?)([a-zA-Z]+)[^>]*>|([^<]+)")

_SCRIPTS = {  # MathML element -> LaTeX of its children in order
    "mfrac": r"\frac{{{0}}}{{{1}}}",
    "msqrt": r"\sqrt{{{0}}}",
    "mroot": r"\sqrt[{1}]{{{0}}}",
    "msup": "{0}^{{{1}}}",
    "mover": "{0}^{{{1}}}",
    "msub": "{0}_{{{1}}}",
    "munder": "{0}_{{{1}}}",
    "msubsup": "{0}_{{{1}}}^{{{2}}}",
    "munderover": "{0}_{{{1}}}^{{{2}}}",
}
_INVISIBLE = dict.fromkeys((0x2061, 0x2062, 0x2063, 0x2064, 0x200B))  # function application, invisible times, …


def write_latex(markup: str) -> tuple[str, int]:
    r"""Replaces maths in serialised HTML by its LaTeX as text: `\(…\)` inline, `\[…\]` displayed.

    Reads MathJax 2 scripts, TeX annotations in MathML (KaTeX, MathJax 3, Wikipedia), `alttext` (LaTeXML), bare
    presentation MathML, and images of formulas with their source as alternative text (Sphinx, Wikipedia).

    Returns:
        The markup, and how many formulas were found.
    """
    found = 0

    def delimited(tex: str, display: bool) -> str:
        nonlocal found
        found += 1
        tex = tex.strip()
        if tex.startswith(r"{\displaystyle") and tex.endswith("}"):
            tex = tex[len(r"{\displaystyle") : -1].strip()
        return f"\\[{tex}\\]" if display else f"\\({tex}\\)"

    def script(match: re.Match[str]) -> str:  # a script's text is raw, so it must be escaped to become markup
        tex = match[2].replace("&", "&amp;").replace("<", "&lt;")
        return delimited(tex, "display" in match[1])

    def mathml(match: re.Match[str]) -> str:
        attributes, body = match.groups()
        source = _ANNOTATION.search(body) or _ALT_TEXT.search(attributes)
        tex = source[1] if source else mathml_to_latex(body)
        return delimited(tex, 'display="block"' in attributes) if tex.strip() else ""

    def image(match: re.Match[str]) -> str:
        before, alt, after = match.groups()
        if _IMAGE_OF_MATHS.search(before + after) or (_TEX.search(alt) and not alt.startswith("http")):
            return delimited(alt, False)
        # On pages of code and mathematics images are drawings, whose texts say what they show.
        return f" {alt} " if technical and len(_WORDS.findall(alt)) >= _ALT_WORDS else match[0]

    if "math" in markup:
        if "math/tex" in markup:
            # What MathJax 2 made of the scripts in a browser stands beside them in pages that were saved there.
            rendered = ((at.start(), end_of_element(markup, at[1], at.end())) for at in _RENDERED.finditer(markup))
            markup = _TEX_SCRIPT.sub(script, without_spans(markup, rendered))
        if "<math" in markup:
            markup = _MATHML.sub(mathml, markup)
            markup = _WIKI_FALLBACK.sub("", markup)
    if "<img" in markup:
        technical = found > 1 or "<pre" in markup
        markup = _IMAGE.sub(image, markup)
    return markup, found


def mathml_to_latex(body: str) -> str:
    """Presentation MathML (serialised, its text still escaped) as LaTeX; a stack, so that no nesting is too deep."""
    stack: list[tuple[str, list[str]]] = [("math", [])]
    for match in _TOKEN.finditer(body):
        closing, name, text = match[1], match[2], match[3]
        if text is not None:
            text = unescape(text).translate(_INVISIBLE).strip()
            if text:
                stack[-1][1].append(text.replace("&", "&amp;").replace("<", "&lt;"))
        elif not closing:
            stack.append((name, []))
        elif len(stack) > 1:
            name, children = stack.pop()
            stack[-1][1].append(_combined(name, children))
    while len(stack) > 1:
        name, children = stack.pop()
        stack[-1][1].append(_combined(name, children))
    return _joined(stack[0][1])


def _combined(name: str, children: list[str]) -> str:
    if name in ("annotation", "annotation-xml"):
        return ""
    if name in _SCRIPTS:
        if name == "msqrt":
            children = [_joined(children)]
        return _SCRIPTS[name].format(*children, "", "", "")
    if name == "mtr":
        return " &amp; ".join(children) + r" \\ "
    if name == "mtable":
        return "".join(children).removesuffix(r"\\ ").strip()
    if name == "mi" and len(children) == 1 and len(children[0]) > 1 and children[0].isalpha():
        return rf"\operatorname{{{children[0]}}}"
    if name == "mtext":
        return rf"\text{{{_joined(children)}}}"
    return _joined(children)


def _joined(children: list[str]) -> str:
    """Children side by side, with a space where a command would swallow the letter after it."""
    out: list[str] = []
    for child in filter(None, children):
        if out and child[0].isalpha() and _COMMAND_AT_END.search(out[-1]):
            out.append(" ")
        out.append(child)
    return "".join(out)
