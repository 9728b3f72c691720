"""What the strings under `pages.sources` stand for: units that are read one by one and resumed as a whole."""

from __future__ import annotations

import glob
import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from herdsman.artifacts import ARTIFACTS
from herdsman.errors import InputError
from herdsman.files import digest_of
from herdsman.pages.common_crawl import LICENCE, crawl_files, crawl_path
from herdsman.pages.crawler import PREFIX, site_start
from herdsman.pages.html_folder import html_files
from herdsman.pages.options import PagesOptions
from herdsman.pages.remote import WARC_SUFFIXES, is_remote, remote_files, remote_name
from herdsman.pages.sample import SAMPLE
from herdsman.progress import Progress
from herdsman.transfer import is_local, local_path

NAMED_SAMPLE = "sample"
LIST_SUFFIXES = (".paths", ".paths.gz")
FILES_PER_UNIT = 4096


@dataclass(frozen=True)
class Unit:
    """What is read in one go.

    Attributes:
        kind: "package" of the sample, "warc" file, slice of an "html" folder, "site" to be crawled, or a file still to
            be fetched: "crawl" for one of Common Crawl, "remote" for any other.
        source: the name that its pages carry.
        path: the file or folder on this machine, the address, the Common Crawl path, or the name of the package.
        files: relative paths of the pages of an html slice.
    """

    kind: Literal["package", "warc", "html", "site", "crawl", "remote"]
    source: str
    path: str
    licence: str = ""
    files: tuple[str, ...] = ()


def source_identity(options: PagesOptions) -> list[Any]:
    """What the sources hold now, for the stage's fingerprint, as JSON-able values without absolute paths.

    Packages count by their pinned hash, local files by name, size and time of change, Common Crawl and what lies on
    other servers by path, sites by where and how they are crawled. Needs no network.

    Raises:
        InputError: a source does not exist or is of no known kind.
    """
    return [identity for unit in _units(options) for identity in _identity(unit, options)]


def resolve(options: PagesOptions, progress: Progress) -> list[Unit]:
    """The units of all sources, sorted by name; lists of Common Crawl are fetched and opened, patterns matched.

    Raises:
        InputError: a source does not exist or is of no known kind.
        NetworkError: a list cannot be fetched.
    """
    units = list[Unit]()
    for unit in _units(options):
        if unit.kind == "crawl":
            part = slice(options.common_crawl_from, options.common_crawl_from + options.common_crawl_files)
            paths = crawl_files(unit.path, options.common_crawl_url, part, progress)
            units += [replace(unit, path=path, source=path.rpartition("/")[2]) for path in paths]
        elif unit.kind == "remote":
            units += [replace(unit, path=url, source=remote_name(url)) for url in remote_files(unit.path)]
        else:
            units.append(unit)
    return sorted(dict.fromkeys(units), key=_place)


def _place(unit: Unit) -> tuple[str, str]:
    """By source, then by path; the slices of a folder stay in its order, which is not that of their paths."""
    return unit.source, "" if unit.kind == "html" else unit.path


def _units(options: PagesOptions) -> list[Unit]:
    units: list[Unit] = []
    folders: dict[Path, str] = {}
    for source in sorted(options.sources):  # folders of one name are numbered as they come
        if source == NAMED_SAMPLE:
            units += [Unit("package", package.title, package.artifact, package.licence) for package in SAMPLE]
        elif source.startswith(PREFIX):
            start = site_start(source)
            units.append(Unit("site", start.partition("://")[2], start))
        else:
            units += _found(source, folders)
    return list(dict.fromkeys(units))


def _found(source: str, folders: dict[Path, str], place: Path = Path()) -> Iterator[Unit]:
    """The units of files and folders, here or elsewhere; relative paths start at `place`."""
    if below := crawl_path(source):
        yield Unit("crawl", source, below, LICENCE)
    elif is_remote(source):
        yield Unit("remote", remote_name(source), source)
    else:
        for path in _existing(source, place):
            if path.name.lower().endswith(LIST_SUFFIXES):
                for line in _lines(path):
                    yield from _found(line, folders, path.parent)
            else:
                yield from _local(path, folders)


def _lines(path: Path) -> list[str]:
    """The sources that a list names, one a line; empty lines and those that begin with # are none."""
    try:
        data = path.read_bytes()
        if path.name.lower().endswith(".gz"):
            data = gzip.decompress(data)
        lines = [line.strip() for line in data.decode().splitlines()]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError("cannot be read as a list of WARC files", where=path) from error
    sources = sorted(line for line in lines if line and not line.startswith("#"))
    if nested := [source for source in sources if source.lower().endswith(LIST_SUFFIXES)]:
        raise InputError(f"lists another list ({nested[0]})", where=path, do="name that one in pages.sources")
    return sources


def _existing(source: str, place: Path) -> list[Path]:
    """The path itself, or what a pattern matches, sorted."""
    path = place / local_path(source) if is_local(source) else place / source
    if path.exists():
        return [path]
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
    if not matches:
        what = "no file matches" if glob.has_magic(source) else "no such file or folder"
        raise InputError(what, where=source, do="correct pages.sources in the recipe")
    return matches


def _local(path: Path, folders: dict[Path, str]) -> Iterator[Unit]:
    path = path.resolve()
    name = os.fsencode(path.name).decode(errors="replace")
    if path.is_dir():
        if path not in folders:
            folders[path] = _free_name(name or "root", folders.values())
        files = html_files(path)
        if not files:
            do = "name WARC files by a pattern such as folder/*.warc.gz"
            raise InputError("no .html or .htm file in this folder", where=path, do=do)
        for start in range(0, len(files), FILES_PER_UNIT):
            yield Unit("html", folders[path], str(path), files=tuple(files[start : start + FILES_PER_UNIT]))
    elif path.name.lower().endswith(WARC_SUFFIXES):
        yield Unit("warc", name, str(path))
    else:
        do = "sources are .warc and .warc.gz files, lists of them (.paths), folders of HTML, crawls and `sample`"
        raise InputError("not a WARC file", where=path, do=do)


def _free_name(name: str, taken: Iterable[str]) -> str:
    """The folder's own name; with a number where another folder of the same name came first."""
    number, free, used = 1, name, set(taken)
    while free in used:
        number += 1
        free = f"{name}-{number}"
    return free


def _identity(unit: Unit, options: PagesOptions) -> list[Any]:
    match unit.kind:
        case "package":
            return [["package", unit.source, ARTIFACTS[unit.path].sha256]]
        case "crawl":
            return [["common crawl", unit.path, options.common_crawl_from, options.common_crawl_files]]
        case "remote" | "site":
            return [[unit.kind, unit.path]]
        case "warc":
            stat = Path(unit.path).stat()
            return [["warc", unit.source, stat.st_size, stat.st_mtime_ns]]
        case "html":
            paths = [Path(unit.path) / name for name in unit.files]
            stats = [path.stat(follow_symlinks=path.exists()) for path in paths]  # a dangling link counts as itself
            rows = zip(unit.files, stats, strict=True)
            files = digest_of([[name, stat.st_size, stat.st_mtime_ns] for name, stat in rows])
            return [["html", unit.source, len(unit.files), files]]
