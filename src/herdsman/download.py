"""Downloads that survive bad networks: resumed where they broke off, verified before they count.

A file that is being fetched lies beside its place as `<name>.partial` and takes its place only when it is whole (and,
where a SHA-256 is known, right). The partial file is locked while someone writes to it, so that two processes that
want the same file at once fetch it once.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from herdsman.files import TEMPORARY_SUFFIX, sha256_file
from herdsman.transfer import Client, TransferError, shown, truncate


def download(
    client: Client,
    urls: Iterable[str],
    target: Path,
    problems: list[str],
    *,
    advance: Callable[[int], None] = lambda amount: None,
    waiting: Callable[[], None] = lambda: None,
    sha256: str | None = None,
) -> bool:
    """Brings a file to `target` from the first address that gives the right bytes; False if none does.

    Args:
        urls: addresses in order of preference, drawn one by one.
        problems: gets one clause for each address that failed.
        advance: told of the bytes that arrive (negative: thrown away).
        waiting: called once if another process is fetching the same file at this moment.
        sha256: hex digest that the bytes must have, if known.

    Raises:
        MachineError: the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_name(target.name + TEMPORARY_SUFFIX), waiting) as (file, partial):
        if target.exists() and sha256 in (None, sha256_file(target)):  # by the process that held the lock before
            partial.unlink()
            return True
        advance(file.seek(0, os.SEEK_END))
        for url in urls:
            # What a resumed file began with may be wrong through no fault of this address: it gets a second chance.
            for resumed in (True, False) if file.seek(0, os.SEEK_END) else (False,):
                try:
                    client.fetch_into(url, file, advance)
                except TransferError as error:
                    problems.append(f"{shown(url)}: {error}")
                    break
                file.flush()
                os.fsync(file.fileno())
                if sha256 is None or sha256_file(partial) == sha256:
                    partial.replace(target)
                    return True
                truncate(file, advance)
                if not resumed:
                    problems.append(f"{shown(url)}: its bytes do not have the pinned SHA-256")
        if not file.seek(0, os.SEEK_END):
            partial.unlink()
    return False


@contextmanager
def _locked(partial: Path, waiting: Callable[[], None]) -> Iterator[tuple[BinaryIO, Path]]:
    """The partial file, opened to append and locked; the lock goes with the process, however that ends."""
    while True:
        with open(partial, "ab+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            # While we waited, the holder may have renamed the file we opened: then it is not the partial file any more.
            if partial.exists() and os.path.samestat(os.fstat(file.fileno()), partial.stat()):
                yield file, partial
                return
