"""Common Crawl's WARC files, fetched over HTTPS when their turn comes and kept in the cache."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

from herdsman.artifacts import cache_folder
from herdsman.download import download
from herdsman.errors import InputError, NetworkError
from herdsman.progress import Progress
from herdsman.transfer import Client

LICENCE = "Common Crawl terms of use"
CLIENT = Client(timeout_seconds=60.0, retries=8, backoff_seconds=1.0)  # it asks clients to slow down now and then
_FILE = re.compile(r"crawl-data/(?:[\w-][\w.-]*/)+[\w.-]+\.warc\.gz")
_LIST = re.compile(r"crawl-data/(?:[\w-][\w.-]*/)+warc\.paths\.gz")


def is_crawl_path(source: str) -> bool:
    return source.startswith("crawl-data/")


def check_crawl_path(path: str) -> None:
    """Raises InputError unless the path names a WARC file or a list of them."""
    if not (_FILE.fullmatch(path) or _LIST.fullmatch(path)):
        raise InputError(
            "not a Common Crawl path of WARC files",
            where=path,
            do="take one from a crawl's warc.paths.gz, or name that list itself: "
            "crawl-data/CC-MAIN-2024-18/warc.paths.gz",
        )


def crawl_files(path: str, base_url: str, files: int, progress: Progress) -> list[str]:
    """Paths of WARC files that a Common Crawl path stands for: itself, or the first `files` of a list.

    Raises:
        NetworkError: the list cannot be fetched.
        InputError: it is not a list of WARC paths.
    """
    if not _LIST.fullmatch(path):
        return [path]
    listing = fetch_crawl_file(path, base_url, progress)
    try:
        # A list has about 100,000 lines of 140 bytes; the limit keeps a hostile one from filling the memory.
        lines = zlib.decompressobj(31).decompress(listing.read_bytes(), 1 << 28).decode().split()
    except (zlib.error, UnicodeDecodeError):
        lines = []
    paths = [line for line in lines if _FILE.fullmatch(line)][:files]
    if not paths:
        listing.unlink(missing_ok=True)
        raise InputError("holds no paths of WARC files", where=base_url + path, do="check common_crawl_url")
    return paths


def fetch_crawl_file(path: str, base_url: str, progress: Progress) -> Path:
    """The file in the cache, fetched first if it is not there.

    Raises:
        NetworkError: it cannot be fetched.
        MachineError: the disk is full.
    """
    target = cache_folder() / "common-crawl" / path
    if target.is_file():
        return target
    url = f"{base_url.rstrip('/')}/{path}"
    problems: list[str] = []
    with progress.task("fetch " + target.name, total=CLIENT.size(url), unit="bytes") as task:
        waiting = f"  waiting for another process that is fetching {target.name}"
        if download(CLIENT, [url], target, problems, advance=task.advance, waiting=lambda: progress.line(waiting)):
            return target
    raise NetworkError(
        "cannot be fetched from Common Crawl",
        where="; ".join(problems),
        do="check the path, the network and common_crawl_url, then run again: what has arrived is kept",
    )
