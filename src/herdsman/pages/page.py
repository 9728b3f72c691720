"""One page as it was found, and the few grounds to turn it away before anyone looks at its text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xfe\xff", b"\xff\xfe")
RESOURCE_HEADER_BYTES = 1445
# "Binary data bytes" of the WHATWG MIME Sniffing standard, section 3: control characters that no text has.
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")


@dataclass(frozen=True, slots=True)
class Page:
    """One page.

    Attributes:
        crawled_at: ISO 8601 in UTC to the second, or "" where it is not known.
        html: the bytes of the page, undecoded, without transfer or content encoding.
        content_type: the HTTP header, which may name the charset, or "".
    """

    url: str
    crawled_at: str
    html: bytes
    content_type: str = ""


def refusal(html: bytes, max_page_bytes: int) -> str | None:
    """Why these bytes are no page worth keeping, or None if they may be one."""
    if len(html) > max_page_bytes:
        return "larger than max_page_bytes"
    if not html or html.isspace():
        return "empty page"
    if not html.startswith(BYTE_ORDER_MARKS) and _BINARY.search(html, 0, RESOURCE_HEADER_BYTES):
        return "binary noise"
    return None


def domain_of(url: str) -> str:
    """Host of an address in lower case, without user and port. A page without a host belongs to its folder's name."""
    try:
        parts = urlsplit(url)
        return parts.hostname or parts.path.lstrip("/").partition("/")[0]
    except ValueError:
        return ""


def iso_seconds(moment: datetime | float) -> str:
    """A moment (seconds since 1970, or a datetime; naive means UTC) as ISO 8601 in UTC, to the second."""
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(moment, UTC)
    elif moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
