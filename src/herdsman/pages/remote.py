"""WARC files elsewhere: on web servers by https://, in object stores by s3://, gs:// and whatever else fsspec reads."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from herdsman.artifacts import cache_folder
from herdsman.download import download
from herdsman.errors import HerdsmanError, InputError, NetworkError
from herdsman.files import digest_of
from herdsman.progress import Progress
from herdsman.transfer import Client, is_local, shown, store_of

CLIENT = Client(timeout_seconds=60.0, retries=8, backoff_seconds=1.0)  # Common Crawl asks clients to slow down at times
WARC_SUFFIXES = (".warc", ".warc.gz")


def is_remote(source: str) -> bool:
    return "://" in source and not is_local(source)


def remote_name(url: str) -> str:
    """The last part of an address, by which its pages are known.

    Raises:
        InputError: it is not that of a WARC file.
    """
    try:
        parts = urlsplit(url)
        # Only a web server takes what follows `?` for more than a part of the name: in a store it belongs to a pattern.
        path = unquote(parts.path) if parts.scheme in ("http", "https") else url
    except ValueError:
        path = ""
    if not path.lower().endswith(WARC_SUFFIXES):
        do = "addresses end in .warc or .warc.gz; to crawl a site, write crawl: in front of it"
        raise InputError("not the address of a WARC file", where=shown(url) if path else url, do=do)
    return path.rpartition("/")[2]


def remote_files(url: str) -> list[str]:
    """The address itself, or what a pattern in an object store matches, sorted.

    Raises:
        InputError: nothing matches, or the package that reads this kind of store is not installed.
        NetworkError: the store does not answer.
    """
    protocol = urlsplit(url).scheme
    if protocol in ("http", "https"):
        return [url]
    store = store_of(protocol)
    if not any(sign in url for sign in "*?["):
        return [url]
    try:
        found = [store.unstrip_protocol(path) for path in sorted(store.glob(url))]
    except HerdsmanError:
        raise
    except Exception as error:  # each store has exceptions of its own
        raise NetworkError(f"cannot be listed ({error})", where=url, do="check the address and run again") from error
    if not found:
        raise InputError("no file matches", where=url, do="correct pages.sources in the recipe")
    return found


def cached_at(url: str) -> Path:
    """Where the file of an address lies in the cache once it is fetched."""
    return cache_folder() / "warc" / f"{digest_of(url)[:16]}-{remote_name(url)}"


def fetch(url: str, target: Path, progress: Progress, check: str = "the address and the network") -> Path:
    """Brings the file to its place in the cache, if it is not there yet, and returns the place.

    Args:
        check: what the user can check where it cannot be fetched.

    Raises:
        NetworkError: it cannot be fetched.
        InputError: the package that reads this kind of store is not installed.
        MachineError: the disk is full.
    """
    if target.is_file():
        return target
    problems: list[str] = []
    with progress.task("fetch " + target.name, total=CLIENT.size(url), unit="bytes") as task:
        waiting = f"  waiting for another process that is fetching {target.name}"
        if download(CLIENT, [url], target, problems, advance=task.advance, waiting=lambda: progress.line(waiting)):
            return target
    do = f"check {check}, then run again: what has arrived is kept"
    raise NetworkError("cannot be fetched", where="; ".join(problems), do=do)
