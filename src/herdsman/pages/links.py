"""What a page and a sitemap tell a crawler: links in order, the canonical address, what not to index or follow.

Tags are found by regular expressions in linear time, not by a parser: addresses need no tree, and a hostile page can
make a tree cost far more than its length.
"""

from __future__ import annotations

import html
import re
import zlib
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

MOST_URL_CHARS = 2000
MOST_LINKS = 10_000
MOST_SITEMAP_BYTES = 50 << 20  # of the protocol, sitemaps.org
DEFAULT_PORTS = {"http": 80, "https": 443}
_UNSEEN = re.compile(r"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1|\Z)", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<(a|area|base|link|meta)\s((?:[^<>\"']|\"[^\"]*\"|'[^']*')*+)>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"(?<![a-zA-Z-])([a-zA-Z-]++)\s*+=\s*+(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))")
_TITLE = re.compile(r"<title[^>]{0,200}>([^<]{1,1000})", re.IGNORECASE)
_LOCATION = re.compile(rb"<loc>\s*+(?:<!\[CDATA\[)?([^<]{1,2500})", re.IGNORECASE)
_OTHER_MEDIA = re.compile(
    r"\.(?:png|jpe?g|gif|svg|webp|avif|ico|bmp|tiff?|css|m?js|json|xml|rss|atom|txt|csv|pdf|ps|eps|djvu|epub|docx?|xlsx?"
    r"|pptx?|od[tsp]|zip|gz|tgz|bz2|xz|zst|7z|rar|tar|jar|whl|deb|rpm|dmg|exe|msi|iso|img|apk|mp[34]|m4[av]|ogg|og[av]"
    r"|wav|flac|webm|avi|mov|mkv|woff2?|ttf|otf|eot|inv)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Outlook:
    """What a page tells a crawler.

    Attributes:
        links: addresses in the order of the page, each once, ready to be asked for.
        canonical: the address the page says it has, or "".
        index: whether the page may be kept.
    """

    title: str
    links: list[str]
    canonical: str
    index: bool


def outlook(body: bytes, url: str, charset: str | None, robots_header: str) -> Outlook:
    """Reads a page.

    Args:
        charset: of the HTTP header, if it names one.
        robots_header: the X-Robots-Tag header, or "".
    """
    text = _UNSEEN.sub("", _text_of(body, charset))
    base, canonical, found = url, "", list[str]()
    directives = {word.strip().lower().removeprefix("herdsman:").strip() for word in robots_header.split(",")}
    for name, inside in _TAG.findall(text):
        attributes = {key.lower(): html.unescape(a or b or c) for key, a, b, c in _ATTRIBUTE.findall(inside)}
        target, rel = attributes.get("href", "").strip(), attributes.get("rel", "").lower().split()
        match name.lower():
            case "meta" if attributes.get("name", "").lower() in ("robots", "herdsman"):
                directives |= {word.strip().lower() for word in attributes.get("content", "").split(",")}
            case "base" if target and base == url:
                base = ready(joined(url, target)) or url
            case "link" if target and "canonical" in rel:
                canonical = canonical or ready(joined(base, target))
            case "a" | "area" if target and "nofollow" not in rel and len(found) < MOST_LINKS:
                found.append(ready(joined(base, target)))
    follow = directives.isdisjoint({"nofollow", "none"})
    title = _TITLE.search(text)
    return Outlook(
        " ".join(html.unescape(title[1]).split()) if title else "",
        [link for link in dict.fromkeys(found) if link] if follow else [],
        canonical,
        directives.isdisjoint({"noindex", "none"}),
    )


def sitemap_addresses(content: bytes) -> tuple[list[str], bool]:
    """The addresses in a sitemap, packed or not, and whether they are of further sitemaps."""
    if content.startswith(b"\x1f\x8b"):
        try:
            content = zlib.decompressobj(31).decompress(content, MOST_SITEMAP_BYTES)
        except zlib.error:
            return [], False
    index = b"<sitemapindex" in content[:4096]
    found = [html.unescape(match.decode(errors="replace")).strip("]> \r\n\t") for match in _LOCATION.findall(content)]
    if not found and not content.lstrip().startswith(b"<"):  # the protocol's plain form: one address a line
        found = content.decode(errors="replace").split()
    return [url for url in dict.fromkeys(map(web_address if index else ready, found)) if url], index


def joined(base: str, target: str) -> str:
    """Where a link on the page at `base` leads, or ""."""
    try:
        return urljoin(base, re.sub(r"[\t\r\n]", "", target))
    except ValueError:  # http://[oops/
        return ""


def ready(url: str) -> str:
    """The `web_address` if it can lead to a page, else ""."""
    found = web_address(url)
    path = urlsplit(found).path
    steps = [step for step in path.split("/") if step]
    circles = len(steps) - len(set(steps)) > 3  # /a/b/a/b/a/b: a link that leads ever deeper into itself
    return "" if circles or _OTHER_MEDIA.search(path) else found


def web_address(url: str) -> str:
    """The address as it is asked for, one spelling for each place; "" if it is none of a web server."""
    try:
        parts = urlsplit(url)
        host, port = (
            (parts.hostname or "").encode("idna" if not parts.netloc.isascii() else "ascii").decode(),
            parts.port,
        )
    except ValueError:
        return ""
    if parts.scheme not in DEFAULT_PORTS or not host:
        return ""
    if ":" in host:
        host = f"[{host}]"
    if port and port != DEFAULT_PORTS[parts.scheme]:
        host = f"{host}:{port}"
    path = quote(_without_dots(parts.path), safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]")
    found = urlunsplit((parts.scheme, host, path, query, ""))
    return found if len(found) <= MOST_URL_CHARS else ""


def _without_dots(path: str) -> str:
    """The path without dot segments (RFC 3986, section 5.2.4), which would lead past robots.txt once they are sent."""
    kept = list[str]()
    _, *segments = re.sub("%2e", ".", path or "/", flags=re.IGNORECASE).split("/")
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _text_of(body: bytes, charset: str | None) -> str:
    known = map_encoding_to_html5(charset, fallback_utf8=False) if charset else None
    if known is None:
        try:
            return body.decode()
        except UnicodeDecodeError:
            known = detect_encoding(body, html5_compatible=True, from_html_meta=True)
    return bytes_to_str(body, known or "utf-8")
