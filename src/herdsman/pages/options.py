"""Options of the pages stage: which pages a herd is raised on."""

from __future__ import annotations

from pydantic import Field

from herdsman.options import Options


class PagesOptions(Options):
    """Where the pages come from, and how they are stored."""

    sources: list[str] = Field(
        ["sample"],
        min_length=1,
        description="What to read: `sample` (real pages from the package index), paths or globs of .warc and .warc.gz "
        "files, folders of HTML, and Common Crawl paths (`crawl-data/.../....warc.gz`, or a whole list "
        "`crawl-data/CC-MAIN-.../warc.paths.gz`).",
    )
    common_crawl_url: str = Field(
        "https://data.commoncrawl.org/",
        description="Address below which Common Crawl paths are fetched; set it to use a mirror.",
    )
    common_crawl_files: int = Field(
        1, ge=1, description="How many files of each Common Crawl list are read, from its beginning."
    )
    max_page_bytes: int = Field(
        8 << 20, ge=1024, description="Pages with more bytes of HTML than this are skipped and counted."
    )
    shard_bytes: int = Field(
        24 << 20, ge=1024, description="A page file is closed when it holds this many bytes of HTML before compression."
    )
