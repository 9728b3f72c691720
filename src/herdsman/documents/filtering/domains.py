"""Domains and addresses that are on a block list, and domains full of private data (Llama 3, section 3.1.1).

A list is a sorted array of 64-bit hashes, made once and kept in the cache folder. Processes map the file, so they
share its pages in memory, and only those that are looked at are read. A name that is not listed is taken for one that
is with a probability of 2.5e-13 for the 4.6 million entries of the default list.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from hashlib import blake2b
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from herdsman.artifacts import ARTIFACTS, cache_folder, fetch, read_member
from herdsman.documents.filtering.filter_options import FilterOptions
from herdsman.errors import InputError
from herdsman.files import atomic_open

UT1 = "ut1"
PACKAGE = "datatrove"
_MEMBER = "datatrove/assets/url_filterblacklistsv0_3_0.tar.gz"
MIN_DOMAIN_WORDS = 1_000  # below which a domain is not judged
MIN_DOMAIN_MASKED = 20
_NO_WORD = re.compile(r"[\W_]+")
_ADULT_WORDS = """
    adult anal bdsm blowjob boobs camgirl camgirls creampie cum erotic escort escorts fetish fuck gangbang hardcore
    hentai hookup milf naked nsfw nude nudes orgy porn porno pornstar pussy sex sexcam sexy tits webcam xxx
"""


class BlockList:
    """Named lists of domains and addresses.

    Args:
        lists: sorted hashes of entries by the name of their list.
        allowed: domains that no list touches.
    """

    def __init__(self, lists: dict[str, NDArray[np.uint64]], allowed: Iterable[str] = ()) -> None:
        self._lists = lists
        self._allowed = frozenset(domain.lower() for domain in allowed)

    @classmethod
    def open(cls, options: FilterOptions) -> BlockList:
        """The lists of the recipe, made first where they are new (4.6 million entries take some seconds).

        Raises:
            InputError: a list is not there.
            NetworkError: the default list is not in the cache and cannot be fetched.
        """
        return cls({_name(listed): _open(listed) for listed in options.block_lists}, options.allow_list)

    def category(self, url: str) -> str:
        """Name of the first list that has the address, its domain or a domain above it; "" if none has."""
        entries = _entries_of(url)
        if not entries or not self._allowed.isdisjoint(entries):
            return ""
        hashes = np.fromiter(map(_hash, entries), np.uint64, len(entries))
        for name, listed in self._lists.items():
            at = np.searchsorted(listed, hashes)
            if len(listed) and bool((listed[np.minimum(at, len(listed) - 1)] == hashes).any()):
                return name
        return ""


@cache
def block_list(options: FilterOptions) -> BlockList:
    """The lists of these options, opened once in a process."""
    return BlockList.open(options)


def adult_words(url: str) -> int:
    """How many different words of adult sites an address has."""
    return len(set(_NO_WORD.split(url.lower())).intersection(_ADULT_WORDS.split()))


def dense_domains(
    domains: Sequence[str], masked: Sequence[int], words: Sequence[int], options: FilterOptions
) -> set[str]:
    """Domains with more private data than `max_domain_private` pieces in 1,000 words.

    Args:
        domains, masked, words: of each document its domain, pieces of private data and words.
    """
    names, numbers = np.unique(np.asarray(domains, np.str_), return_inverse=True)
    found, length = (np.bincount(numbers, weights=values, minlength=len(names)) for values in (masked, words))
    dense = (length >= MIN_DOMAIN_WORDS) & (found >= MIN_DOMAIN_MASKED)
    dense &= 1000 * found > options.max_domain_private * length
    return {str(name) for name in names[dense]}


def _entries_of(url: str) -> list[str]:
    """What of an address may be listed: its host, the domains above it, and host and path without a last slash."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return []
    if parts.scheme not in ("http", "https") or not host:
        return []
    labels = host.split(".")
    entries = [host] if labels[-1].isdigit() else [".".join(labels[at:]) for at in range(max(len(labels) - 1, 1))]
    if path := parts.path.rstrip("/"):
        entries.append(f"{host.removeprefix('www.')}{path.lower()}")
    return entries


def _hash(entry: str) -> int:
    return int.from_bytes(blake2b(entry.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _name(listed: str) -> str:
    return listed if listed == UT1 else Path(listed).stem


def _open(listed: str) -> NDArray[np.uint64]:
    if listed == UT1:
        key = ARTIFACTS[PACKAGE].sha256
    else:
        key = hashlib.sha256(b"".join(path.read_bytes() for path in _files(listed))).hexdigest()
    path = cache_folder() / "block-lists" / f"{key[:32]}.npy"
    if not path.exists():
        lines = (
            _ut1_lines()
            if listed == UT1
            else (line for file in _files(listed) for line in file.read_bytes().splitlines())
        )
        hashes = np.unique(np.fromiter(_hashes(lines), np.uint64))
        own = path.with_name(f"{os.getpid()}-{path.name}")  # other processes may be at it, too
        with atomic_open(own) as file:
            np.save(file, hashes)
        own.replace(path)
    mapped: NDArray[np.uint64] = np.load(path, mmap_mode="r")
    return mapped


def _files(listed: str) -> list[Path]:
    path = Path(listed).expanduser()
    files = [file for name in ("domains", "urls") if (file := path / name).is_file()] if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise InputError(
            f"there is no block list {listed}",
            where="documents.filters.block_lists",
            do=f'name "{UT1}", a file with one domain or address a line, or a folder with `domains` and `urls`',
        )
    return files


def _ut1_lines() -> Iterator[bytes]:
    archive = io.BytesIO(read_member(fetch(ARTIFACTS[PACKAGE]), _MEMBER))
    with tarfile.open(fileobj=archive, mode="r:gz") as members:
        for member in members:
            if (file := members.extractfile(member)) is not None:
                yield from file


def _hashes(lines: Iterable[bytes]) -> Iterator[int]:
    """Hashes of entries; one a line, in lower case, without scheme and `www.`; comments begin with a number sign."""
    for line in lines:
        entry = line.strip().lower()
        if b"/" in entry:
            entry = entry.removeprefix(b"http://").removeprefix(b"https://").rstrip(b"/")
        if entry and entry[0] != 35:  # number sign
            digest = blake2b(entry.removeprefix(b"www."), digest_size=8).digest()
            yield int.from_bytes(digest, "little")
