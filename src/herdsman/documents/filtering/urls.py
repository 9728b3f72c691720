"""Addresses in one form, so that the same page crawled twice is known as one; and the identity of a document.

The whole corpus keeps the newest version of each address (Llama 3, section 3.1.1, URL-level de-duplication).
"""

from __future__ import annotations

import re
from hashlib import blake2b
from urllib.parse import quote, urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443, "ftp": 21}
# What advertising, mailing and analytics tools append, and sessions: they say who came from where, not what is shown.
_TRACKING = re.compile(
    r"(?:utm|mtm|pk|piwik|hsa|oly|vero|wt)_\w+|(?:fb|g|dc|y|ms|tw|tt|li_fat_|irg|sc)cl(?:k)?id|li_fat_id|gclsrc|gbraid|wbraid"
    r"|mc_[ce]id|igsh(?:id)?|mkt_tok|_ga|_gl|_hsenc|_hsmi|__hstc|__hssc|__hsfp|__s|ml_subscriber(?:_hash)?|s_cid|ncid"
    r"|trk(?:campaign|info)?|(?:at|matomo|itm|bsft|guce|trk)_\w+|spm|epik|srsltid|wickedid|yclid|_openstat|msockid|sfnsn|phpsessid|jsessionid|aspsessionid\w*|cfid|cftoken|sessionid|session_id",
    re.I,
)
_PATH_SESSION = re.compile(r";(?:jsessionid|phpsessid|sid)=[^/;?]*", re.I)
_INDEX = re.compile(r"/(?:index|default)\.(?:x?html?|php\d?|aspx?|jsp)$", re.I)
_TO_ESCAPE = re.compile(r"[^\x21-\x7e]+")
_DROPPED = str.maketrans("", "", "\t\n\r")
_ESCAPE = re.compile(r"%([0-9a-fA-F]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def normalise(url: str) -> str:
    """The address without what does not change the page it leads to.

    Scheme and host in lower case, `http` as `https`; no user, default port, fragment (except `#!`, which sites used to
    address pages by), tracking parameter, session or name of an index page; parameters sorted; dot segments resolved;
    escapes of unreserved characters written plainly, others in upper case (RFC 3986, section 6.2.2). As in browsers
    (WHATWG URL) tabs and line ends vanish, backslashes are slashes, other languages' host names are in Punycode, and
    their letters in paths escaped. An address that cannot be read is returned without the white space around it.
    """
    url = url.strip().translate(_DROPPED)
    if "\\" in url and url[:4].lower() == "http":
        before, mark, after = url.partition("?")
        url = before.replace("\\", "/") + mark + after
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return url
    if not host:
        return url.partition("#")[0]
    scheme = parts.scheme
    if port is not None and port == _DEFAULT_PORTS.get(scheme):
        port = None
    host = _ascii_host(host.rstrip("."))
    if ":" in host:
        host = f"[{host}]"
    if scheme == "http":
        scheme = "https"
    path = _without_dots(_plain_escapes(_PATH_SESSION.sub("", parts.path)))
    path = _INDEX.sub("/", path) or "/"
    parameters = sorted(
        parameter
        for parameter in _plain_escapes(parts.query).split("&")
        if parameter and not _TRACKING.fullmatch(parameter.partition("=")[0])
    )
    query = "?" + "&".join(parameters) if parameters else ""
    fragment = "#" + parts.fragment if parts.fragment.startswith("!") else ""
    return f"{scheme}://{host}{'' if port is None else f':{port}'}{path}{query}{fragment}"


def identity(url: str, content: str | bytes) -> str:
    """128 bits in hex that name a document: the same address with the same content is the same document."""
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    # Addresses hold no NUL, so no two pairs run into one.
    return blake2b(url.encode("utf-8", "surrogatepass") + b"\0" + content, digest_size=16).hexdigest()


def _ascii_host(host: str) -> str:
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return host


def _plain_escapes(text: str) -> str:
    if not text.isascii() or " " in text:
        text = _TO_ESCAPE.sub(lambda match: quote(match[0], safe="", errors="surrogatepass"), text)
    return _ESCAPE.sub(_plain_escape, text) if "%" in text else text


def _plain_escape(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return character if character in _UNRESERVED else match[0].upper()


def _without_dots(path: str) -> str:
    """Removes dot segments (RFC 3986, section 5.2.4)."""
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            if len(kept) > 1:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/".join(kept)
