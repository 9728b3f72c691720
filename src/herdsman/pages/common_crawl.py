"""Common Crawl's WARC files, by the name of a crawl or by path, fetched when their turn comes and kept in the cache."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

from herdsman.artifacts import cache_folder
from herdsman.errors import InputError
from herdsman.pages.remote import fetch
from herdsman.progress import Progress

LICENCE = "Common Crawl terms of use"
_CRAWL = re.compile(r"CC-MAIN-\d{4}-\d{2,4}")
_FILE = re.compile(r"crawl-data/(?:[\w-][\w.-]*/)+[\w.-]+\.warc\.gz")
_LIST = re.compile(r"crawl-data/(?:[\w-][\w.-]*/)+warc\.paths\.gz")


def crawl_path(source: str) -> str | None:
    """The path below Common Crawl's address that a source stands for, or None if it is of another kind.

    Raises:
        InputError: the path is not that of a WARC file or a list of them.
    """
    if _CRAWL.fullmatch(source):
        return f"crawl-data/{source}/warc.paths.gz"
    if not source.startswith(("crawl-data/", "CC-MAIN-")):
        return None
    if not (_FILE.fullmatch(source) or _LIST.fullmatch(source)):
        raise InputError(
            "not a Common Crawl path of WARC files",
            where=source,
            do="name a crawl, such as CC-MAIN-2024-18, or a path from its crawl-data/CC-MAIN-2024-18/warc.paths.gz",
        )
    return source


def crawl_files(path: str, base_url: str, files: slice, progress: Progress) -> list[str]:
    """Paths of WARC files that a Common Crawl path stands for: itself, or these `files` of a list.

    Raises:
        NetworkError: the list cannot be fetched.
        InputError: it is not a list of WARC paths, or not as long.
    """
    if not _LIST.fullmatch(path):
        return [path]
    listing = fetch_crawl_file(path, base_url, progress)
    try:
        # A list has about 100,000 lines of 140 bytes; the limit keeps a hostile one from filling the memory.
        with gzip.open(listing) as file:
            lines = file.read(1 << 28).decode().split()
    except (gzip.BadGzipFile, EOFError, zlib.error, UnicodeDecodeError):
        lines = []
    paths = [line for line in lines if _FILE.fullmatch(line)]
    if not paths:
        listing.unlink(missing_ok=True)
        raise InputError("holds no paths of WARC files", where=base_url + path, do="check common_crawl_url")
    if not paths[files]:
        raise InputError(f"holds {len(paths):,} files", where=base_url + path, do="lower pages.common_crawl_from")
    return paths[files]


def fetch_crawl_file(path: str, base_url: str, progress: Progress) -> Path:
    """The file in the cache, fetched first if it is not there.

    Raises:
        NetworkError: it cannot be fetched.
        MachineError: the disk is full.
    """
    url = f"{base_url.rstrip('/')}/{path}"
    check = "the path, the network and common_crawl_url"
    return fetch(url, cache_folder() / "common-crawl" / path, progress, check)
