"""Pages that lie as .html files in a folder, such as a downloaded manual or a mirrored site."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from herdsman.pages.page import Page, iso_seconds, refusal

HTML_SUFFIXES = (".html", ".htm", ".xhtml")


def html_files(folder: Path) -> list[str]:
    """Paths of the HTML files below the folder, relative to it with `/`, in the order of their addresses."""
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            if name.lower().endswith(HTML_SUFFIXES):
                found.append((Path(place) / name).relative_to(folder).as_posix())
    return sorted(found, key=_address)


def read_html_files(
    folder: Path, label: str, files: tuple[str, ...], skipped: Counter[str], max_page_bytes: int
) -> Iterator[Page]:
    """The pages of these files. Their addresses are `html:///<label>/<path>`, their dates those of the files."""
    for name in files:
        if not (folder / name).is_file():  # also what would block for ever when opened, such as a pipe
            skipped["unreadable file"] += 1
            continue
        try:
            with open(folder / name, "rb") as file:
                html = file.read(max_page_bytes + 1)
                modified = os.fstat(file.fileno()).st_mtime
        except OSError:
            skipped["unreadable file"] += 1
            continue
        if reason := refusal(html, max_page_bytes):
            skipped[reason] += 1
            continue
        yield Page(f"html:///{quote(label)}/{_address(name)}", iso_seconds(int(modified)), html)


def _address(name: str) -> str:
    return quote(os.fsencode(name))
