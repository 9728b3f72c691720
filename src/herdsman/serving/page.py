"""GET /: the page to chat on, one file that asks nobody but this server for anything."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response

PAGE = "page.html"


async def page(request: Request) -> Response:
    """Answers GET /."""
    body, policy, tag = _page()
    headers = {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-cache",
        "Cross-Origin-Opener-Policy": "same-origin",
        "ETag": tag,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="text/html")


@cache
def _page() -> tuple[bytes, str, str]:
    """The page, its Content-Security-Policy and its ETag.

    Only the page's own script and style may run, named by their digests: nothing a model writes ever can.
    """
    text = resources.files("herdsman.serving").joinpath(PAGE).read_text(encoding="utf-8")
    policy = {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "script-src": _digests(text, "script"),
        "style-src": _digests(text, "style"),
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    body = text.encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return body, "; ".join(f"{name} {value}" for name, value in policy.items()), tag


def _digests(text: str, tag: str) -> str:
    bodies = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() for body in bodies)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
