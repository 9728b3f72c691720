"""Options of the pages stage: which pages a herd is raised on."""

from __future__ import annotations

from pydantic import Field

from herdsman.options import Options


class CrawlOptions(Options):
    """How sites named `crawl:https://...` are crawled: within robots.txt, one request at a time to each host."""

    contact: str = Field(
        "",
        pattern=r"^[ -~]*$",
        description="Address of a page or mailbox where the owner of a site reaches you; part of the User-Agent.",
    )
    delay_seconds: float = Field(
        1.0, ge=0, description="Pause between two requests to one host; longer where its robots.txt asks for it."
    )
    max_pages: int = Field(1000, ge=1, description="Pages kept of each site.")
    max_depth: int = Field(
        8, ge=0, description="Links followed from a site's first page on; pages of its sitemaps count as one link away."
    )
    timeout_seconds: float = Field(30.0, gt=0, description="How long a server may stay silent.")
    retries: int = Field(3, ge=0, description="Further tries where a server is busy or silent, with growing pauses.")
    edition: str = Field(
        "", description="What was crawled is kept in the cache; another name here, such as a date, crawls anew."
    )


class PagesOptions(Options):
    """Where the pages come from, and how they are stored."""

    sources: list[str] = Field(
        ["sample"],
        min_length=1,
        description="What to read: `sample` (real pages from the package index), .warc and .warc.gz files by path, "
        "glob or address (`https://`, `s3://`, `gs://`), lists of them (.paths, .paths.gz), folders of HTML, crawls of "
        "Common Crawl (`CC-MAIN-2024-18`) or paths in one (`crawl-data/...`), and sites (`crawl:https://...`).",
    )
    crawl: CrawlOptions = Field(CrawlOptions(), description="How sites are crawled.")
    common_crawl_url: str = Field(
        "https://data.commoncrawl.org/",
        description="Address below which Common Crawl paths are fetched: a mirror, or `s3://commoncrawl/`.",
    )
    common_crawl_files: int = Field(1, ge=1, description="How many files of each crawl or Common Crawl list are read.")
    common_crawl_from: int = Field(0, ge=0, description="Place in the list of the first of them, counted from 0.")
    keep_fetched: bool = Field(
        True, description="Keep WARC files that were fetched in the cache; if false, each goes once it is read."
    )
    max_page_bytes: int = Field(
        8 << 20, ge=1024, description="Pages with more bytes of HTML than this are skipped and counted."
    )
    shard_bytes: int = Field(
        24 << 20, ge=1024, description="A page file is closed when it holds this many bytes of HTML before compression."
    )
