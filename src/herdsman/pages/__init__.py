"""Where pages come from: WARC files, Common Crawl, folders of HTML, the named sample."""
