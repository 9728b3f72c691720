"""The pages stage: reads every source and stores its pages, each file of a source as a unit that resumes as a whole."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from herdsman.artifacts import fetch_all
from herdsman.errors import InputError
from herdsman.files import read_json, write_json, write_text
from herdsman.pages.common_crawl import fetch_crawl_file
from herdsman.pages.crawler import crawl_sites, read_site, site_folder
from herdsman.pages.html_folder import read_html_files
from herdsman.pages.options import PagesOptions
from herdsman.pages.page import Page
from herdsman.pages.remote import cached_at, fetch
from herdsman.pages.sample import SAMPLE, read_package
from herdsman.pages.shards import write_shards
from herdsman.pages.sources import Unit, resolve
from herdsman.pages.warc import read_warc
from herdsman.parallel import map_ordered
from herdsman.workspace import Work

EXAMPLES = 3
SOURCES_SHOWN = 100


@dataclass(frozen=True)
class Job:
    """One unit and where its pages go; `name` is the prefix of its files in the scratch folder."""

    name: str
    unit: Unit
    scratch: Path
    max_page_bytes: int
    shard_bytes: int
    max_pages: int = 0  # of a site
    spend: bool = False  # the file was fetched, and goes when it is read

    @property
    def report(self) -> Path:
        """Written last: a unit that has it is done."""
        return self.scratch / f"{self.name}.json"


def gather(options: PagesOptions, work: Work) -> None:
    """Writes `pages-00000.parquet` and so on: the pages of all sources, by source, in each source's order.

    Raises:
        InputError: a source does not exist, or no source holds a page.
        NetworkError: something cannot be fetched.
    """
    limits = options.max_page_bytes, options.shard_bytes, options.crawl.max_pages
    units = _units(options, work)
    jobs = [Job(f"unit-{number:05d}", unit, work.scratch, *limits) for number, unit in enumerate(units)]
    with work.progress.task("pages", total=len(jobs), unit="files") as task:
        waiting = [job for job in jobs if not job.report.exists()]
        task.resume(len(jobs) - len(waiting))
        pages = 0

        def tell(more: int) -> None:
            nonlocal pages
            pages += more
            task.note(f"{pages:,} pages")
            task.advance(0)

        workers = max(1, min(work.workers, len(waiting)))
        write = partial(write_unit, tell=tell) if workers == 1 else write_unit
        for report in map_ordered(write, _fetched(waiting, options, work), workers, work.engine):
            tell(report["pages"] if workers > 1 else 0)
            task.advance()
    reports = [read_json(job.report) for job in jobs]
    if not any(report["pages"] for report in reports):
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(_skips(reports).items()))
        raise InputError(f"no page in any source ({reasons or 'they are empty'})", where="pages.sources")
    _publish(jobs, reports, work)
    _summarise(reports, work)


def write_unit(job: Job, tell: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Writes the page files of one unit, then its report, which is returned.

    Args:
        tell: called with the number of pages of each file written.
    """
    skipped: Counter[str] = Counter()
    pages = _read(job.unit, skipped, job.max_page_bytes, job.max_pages)
    counts: list[int] = []
    html_bytes, examples = 0, list[str]()
    for shard in write_shards(pages, job.unit.source, job.unit.licence, job.scratch, job.name, job.shard_bytes):
        counts.append(len(shard))
        html_bytes += sum(len(page.html) for page in shard)
        examples += _examples([page.url for page in shard])
        if tell:
            tell(len(shard))
    report = {
        "source": job.unit.source,
        "licence": job.unit.licence,
        "pages": sum(counts),
        "bytes": html_bytes,
        "files": len(counts),
        "skipped": dict(skipped),
        "examples": _examples(examples),
    }
    write_json(job.report, report)
    if job.spend:
        Path(job.unit.path).unlink(missing_ok=True)
    return report


def _examples(urls: list[str]) -> list[str]:
    shown = min(EXAMPLES, len(urls))
    return [urls[len(urls) * part // shown] for part in range(shown)]


def _units(options: PagesOptions, work: Work) -> list[Unit]:
    """The units of all sources, listed once: a killed run goes on with the same, even if a server now lists others."""
    listed = work.scratch / "units.json"
    if not listed.exists():
        units = [asdict(unit) for unit in resolve(options, work.progress)]
        write_text(listed, json.dumps(units))  # in ASCII: names of files need not be Unicode
    return [Unit(**row | {"files": tuple(row["files"])}) for row in read_json(listed)]


def _fetched(jobs: list[Job], options: PagesOptions, work: Work) -> Iterator[Job]:
    """The jobs with their files on this machine. What lies elsewhere comes one by one, while others are being read."""
    packages = fetch_all([job.unit.path for job in jobs if job.unit.kind == "package"], work.progress)
    sites = [job for job in jobs if job.unit.kind == "site"]
    for job in jobs:
        unit = job.unit
        match unit.kind:
            case "package":
                yield replace(job, unit=replace(unit, files=(str(packages[unit.path]),)))
            case "crawl" | "remote":
                if unit.kind == "crawl":
                    path = fetch_crawl_file(unit.path, options.common_crawl_url, work.progress)
                else:
                    path = fetch(unit.path, cached_at(unit.path), work.progress)
                yield replace(job, unit=replace(unit, kind="warc", path=str(path)), spend=not options.keep_fetched)
            case "warc" | "html":
                yield job
    if sites:
        crawl_sites([job.unit.path for job in sites], options, work.progress)
    for job in sites:
        yield replace(job, unit=replace(job.unit, path=str(site_folder(job.unit.path, options))))


def _read(unit: Unit, skipped: Counter[str], max_page_bytes: int, max_pages: int) -> Iterator[Page]:
    match unit.kind:
        case "package":
            package = next(package for package in SAMPLE if package.artifact == unit.path)
            yield from read_package(package, Path(unit.files[0]), skipped, max_page_bytes)
        case "html":
            yield from read_html_files(Path(unit.path), unit.source, unit.files, skipped, max_page_bytes)
        case "site":
            yield from read_site(Path(unit.path), skipped, max_page_bytes, max_pages)
        case _:
            try:
                file = open(unit.path, "rb")  # noqa: SIM115
            except OSError as error:
                raise InputError(f"cannot be read ({error.strerror})", where=unit.path) from error
            with file:
                yield from read_warc(file, skipped, max_page_bytes)


def _publish(jobs: list[Job], reports: list[dict[str, Any]], work: Work) -> None:
    """Moves the page files of all units to their final names. Killed midway, the next run moves the rest."""
    number = 0
    for job, report in zip(jobs, reports, strict=True):
        for file in range(report["files"]):
            scratch = job.scratch / f"{job.name}-{file:05d}.parquet"
            if scratch.exists():
                scratch.replace(work.out / f"pages-{number:05d}.parquet")
            number += 1


def _skips(reports: list[dict[str, Any]]) -> Counter[str]:
    skips: Counter[str] = Counter()
    for report in reports:
        skips.update(report["skipped"])
    return skips


def _summarise(reports: list[dict[str, Any]], work: Work) -> None:
    sources: dict[str, dict[str, Any]] = {}
    for report in reports:
        row = sources.setdefault(
            report["source"],
            {"source": report["source"], "licence": report["licence"], "pages": 0, "bytes": 0, "skipped": Counter()},
        )
        row["pages"] += report["pages"]
        row["bytes"] += report["bytes"]
        row["skipped"].update(report["skipped"])
        row.setdefault("examples", report["examples"])
    skips = _skips(reports)
    totals = {key: sum(report[key] for report in reports) for key in ("pages", "bytes", "files")}
    work.counts = {
        "sources": len(sources),
        "pages": totals["pages"],
        "html_bytes": totals["bytes"],
        "files": totals["files"],
        "skipped": skips.total(),
    }
    work.counts |= {f"skipped: {reason}": count for reason, count in sorted(skips.items())}
    largest = sorted(sources.values(), key=lambda row: (-row["bytes"], row["source"]))
    work.summarise(
        {
            **totals,
            "skipped": dict(sorted(skips.items())),
            "sources_total": len(sources),
            "sources": largest[:SOURCES_SHOWN],
        }
    )
