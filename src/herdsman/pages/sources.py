"""What the strings under `pages.sources` stand for: units that are read one by one and resumed as a whole."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from herdsman.artifacts import ARTIFACTS
from herdsman.errors import InputError
from herdsman.files import digest_of
from herdsman.pages.common_crawl import LICENCE, check_crawl_path, crawl_files, is_crawl_path
from herdsman.pages.html_folder import html_files
from herdsman.pages.options import PagesOptions
from herdsman.pages.sample import SAMPLE
from herdsman.progress import Progress

NAMED_SAMPLE = "sample"
WARC_SUFFIXES = (".warc", ".warc.gz")
FILES_PER_UNIT = 4096


@dataclass(frozen=True)
class Unit:
    """What is read in one go.

    Attributes:
        kind: "package" of the sample, "warc" file, slice of an "html" folder, or "crawl" path still to be fetched.
        source: the name that its pages carry.
        path: the file or folder on this machine, the Common Crawl path, or the name of the package.
        files: relative paths of the pages of an html slice.
    """

    kind: Literal["package", "warc", "html", "crawl"]
    source: str
    path: str
    licence: str = ""
    files: tuple[str, ...] = ()


def source_identity(options: PagesOptions) -> list[Any]:
    """What the sources hold now, for the stage's fingerprint, as JSON-able values without absolute paths.

    Packages count by their pinned hash, local files by name, size and time of change, Common Crawl by path (its files
    never change). Needs no network.

    Raises:
        InputError: a source does not exist or is of no known kind.
    """
    return [identity for unit in _units(options) for identity in _identity(unit, options)]


def resolve(options: PagesOptions, progress: Progress) -> list[Unit]:
    """The units of all sources, sorted by name; lists of Common Crawl paths are fetched and opened.

    Raises:
        InputError: a source does not exist or is of no known kind.
        NetworkError: a list cannot be fetched.
    """
    units = []
    for unit in _units(options):
        if unit.kind == "crawl":
            paths = crawl_files(unit.path, options.common_crawl_url, options.common_crawl_files, progress)
            units += [replace(unit, path=path, source=path.rpartition("/")[2]) for path in paths]
        else:
            units.append(unit)
    return sorted(dict.fromkeys(units), key=lambda unit: unit.source)


def _units(options: PagesOptions) -> list[Unit]:
    units: list[Unit] = []
    folders: dict[Path, str] = {}
    for source in options.sources:
        if source == NAMED_SAMPLE:
            units += [Unit("package", package.title, package.artifact, package.licence) for package in SAMPLE]
        elif is_crawl_path(source):
            check_crawl_path(source)
            units.append(Unit("crawl", source, source, LICENCE))
        else:
            units += [unit for path in _existing(source) for unit in _local(path, folders)]
    return list(dict.fromkeys(units))


def _existing(source: str) -> list[Path]:
    """The path itself, or what a pattern matches, sorted."""
    path = Path(source).expanduser()
    if path.exists():
        return [path]
    if "://" in source:
        do = "name a file on this machine, or a Common Crawl path that begins with crawl-data/"
        raise InputError("an address is not a source of pages", where=source, do=do)
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
    if not matches:
        what = "no file matches" if glob.has_magic(source) else "no such file or folder"
        raise InputError(what, where=source, do="correct pages.sources in the recipe")
    return matches


def _local(path: Path, folders: dict[Path, str]) -> Iterator[Unit]:
    path = path.resolve()
    if path.is_dir():
        if path not in folders:
            folders[path] = _free_name(path.name or "root", folders.values())
        files = html_files(path)
        if not files:
            do = "name WARC files by a pattern such as folder/*.warc.gz"
            raise InputError("no .html or .htm file in this folder", where=path, do=do)
        for start in range(0, len(files), FILES_PER_UNIT):
            yield Unit("html", folders[path], str(path), files=tuple(files[start : start + FILES_PER_UNIT]))
    elif path.name.lower().endswith(WARC_SUFFIXES):
        yield Unit("warc", path.name, str(path))
    else:
        do = "sources are .warc and .warc.gz files, folders of HTML, Common Crawl paths and `sample`"
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
            return [["common crawl", unit.path, options.common_crawl_files]]
        case "warc":
            stat = Path(unit.path).stat()
            return [["warc", unit.source, stat.st_size, stat.st_mtime_ns]]
        case "html":
            paths = [Path(unit.path) / name for name in unit.files]
            stats = [path.stat(follow_symlinks=path.exists()) for path in paths]  # a dangling link counts as itself
            rows = zip(unit.files, stats, strict=True)
            files = digest_of([[name, stat.st_size, stat.st_mtime_ns] for name, stat in rows])
            return [["html", unit.source, len(unit.files), files]]
