"""What a crawl of one site has seen and what waits, in an SQLite file that is right after a kill at any moment."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

WAITING, KEPT, REDIRECT, FORBIDDEN = "waiting", "kept", "redirect", "forbidden by robots.txt"
OTHER_ADDRESS = "another address is the canonical one"
NOT_ASKED = "not asked, as too few of the site's addresses gave a page"
MOST_WAITING = 1_000_000  # so that no site can fill the disk
_TABLES = """
CREATE TABLE IF NOT EXISTS page (
    id INTEGER PRIMARY KEY,   -- in order of discovery
    url TEXT UNIQUE,
    parent INTEGER,           -- the page that linked to it first
    place INTEGER,            -- id of the page that redirected here, whose place in the site it takes
    depth INTEGER,            -- links from the first page to here
    hops INTEGER,             -- redirects that led here
    state TEXT,               -- 'waiting', 'kept', or why it is no page of the result
    title TEXT,
    canonical TEXT,
    digest BLOB,
    start INTEGER,            -- of its record in the WARC file
    end INTEGER
);
CREATE INDEX IF NOT EXISTS by_state ON page (state, depth, id);
CREATE INDEX IF NOT EXISTS by_digest ON page (digest);
CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, value TEXT);
"""


@dataclass(frozen=True)
class Place:
    """An address that waits, and where in the site it was found."""

    id: int
    url: str
    parent: int | None
    place: int | None
    depth: int
    hops: int


class Frontier:
    """Belongs to one thread. Every method that writes is one transaction."""

    def __init__(self, path: Path):
        self.db = sqlite3.connect(path)
        self.db.executescript(_TABLES)

    def close(self) -> None:
        self.db.close()

    def note(self, name: str) -> str | None:
        return self._one("SELECT max(value) FROM note WHERE name = ?", name)

    def write_note(self, name: str, value: str) -> None:
        with self.db:
            self.db.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, value))

    def add(self, urls: Iterable[str], parent: int | None, depth: int) -> None:
        """Lets addresses wait that were not seen before."""
        with self.db:
            self._add(urls, parent, depth)

    def next(self, max_depth: int) -> Place | None:
        """The address to ask for now: breadth first, in order of discovery."""
        query = "SELECT id, url, parent, place, depth, hops FROM page WHERE state = ? AND depth <= ?"
        row = self.db.execute(query + " ORDER BY depth, id LIMIT 1", (WAITING, max_depth)).fetchone()
        return Place(*row) if row else None

    def close_with(self, ids: Iterable[int], state: str) -> None:
        """Says why these addresses give no page, or that they wait again."""
        with self.db:
            self.db.executemany("UPDATE page SET state = ? WHERE id = ?", [(state, id) for id in ids])

    def redirect(self, place: Place, target: str) -> None:
        """The address leads to another, which takes its place if it was not seen before."""
        row = (target, place.parent, place.place or place.id, place.depth, place.hops + 1, WAITING)
        with self.db:
            self.db.execute("UPDATE page SET state = ? WHERE id = ?", (REDIRECT, place.id))
            insert = "INSERT OR IGNORE INTO page (url, parent, place, depth, hops, state) VALUES (?, ?, ?, ?, ?, ?)"
            self.db.execute(insert, row)

    def keep(self, place: Place, values: dict[str, Any], links: list[str]) -> None:
        """The page is read: sets these columns of it, and lets its links wait."""
        with self.db:
            columns = ", ".join(f"{name} = ?" for name in values)
            self.db.execute(f"UPDATE page SET {columns} WHERE id = ?", (*values.values(), place.id))
            self._add(links, place.id, place.depth + 1)

    def holds(self, digest: bytes) -> bool:
        """Whether a page with these bytes was kept."""
        return bool(self._one("SELECT count(*) FROM page WHERE digest = ? AND state = ?", digest, KEPT))

    def count(self, state: str) -> int:
        return self._one("SELECT count(*) FROM page WHERE state = ?", state)

    def asked(self) -> int:
        """How many addresses were asked for, whatever came."""
        return self._one("SELECT count(*) FROM page WHERE state NOT IN (?, ?)", WAITING, FORBIDDEN)

    def end(self) -> int:
        """Where the WARC file ends that goes with this state; what follows was being written when we were killed."""
        return self._one("SELECT coalesce(max(end), 0) FROM page")

    def first(self) -> int:
        """Id of the site's first page: what the start led to."""
        return self._one("SELECT max(id) FROM page WHERE depth = 0")

    def forget(self) -> list[str]:
        """Empties the frontier, so that another crawl starts afresh, and returns what its pages were closed with."""
        query = "SELECT DISTINCT state FROM page WHERE state != ? ORDER BY state"
        reasons = [reason for (reason,) in self.db.execute(query, (WAITING,))]
        with self.db:
            self.db.execute("DELETE FROM page")
            self.db.execute("DELETE FROM note")
        return reasons

    def trail(self, parent: int | None) -> list[tuple[str, str]]:
        """Address and title of a page and those that lead to it, the site's first page first."""
        trail = list[tuple[str, str]]()
        while parent is not None:
            query = "SELECT url, coalesce(title, ''), parent FROM page WHERE id = ?"
            url, title, parent = self.db.execute(query, (parent,)).fetchone()
            trail.insert(0, (url, title))
        return trail

    def _one(self, query: str, *values: Any) -> Any:
        return self.db.execute(query, values).fetchone()[0]

    def _add(self, urls: Iterable[str], parent: int | None, depth: int) -> None:
        insert = "INSERT OR IGNORE INTO page (url, parent, depth, hops, state) VALUES (?, ?, ?, 0, ?)"
        room = max(0, MOST_WAITING - self.count(WAITING))
        self.db.executemany(insert, [(url, parent, depth, WAITING) for url in islice(urls, room)])


def site_order(path: Path, max_pages: int) -> tuple[list[int], Counter[str]]:
    """Where the records of a crawl's first pages begin, in the order of the site, and what was left out, by reason.

    The order is that of a table of contents: each page before the pages it was the first to link to, in the order of
    its links. A page that names another of them as its canonical address is left out, unless that is the site's first
    page or itself points elsewhere: such links are mistakes of a template. Of a site that gave fewer pages than it was
    allowed, what still waits was left because most of what was asked for gave none.
    """
    children: dict[int | None, list[int]] = {}
    skipped: Counter[str] = Counter()
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        for id, parent, state in db.execute("SELECT id, parent, state FROM page ORDER BY coalesce(place, id), id"):
            children.setdefault(parent, []).append(id)
            skipped[state] += state not in (KEPT, WAITING)
        taken = db.execute(
            """WITH taken (id) AS (SELECT id FROM page WHERE state = ? ORDER BY start LIMIT ?)
               SELECT page.id, page.start, other.id IS NOT NULL FROM page LEFT JOIN page AS other
               ON other.url = page.canonical AND other.id != page.id AND other.depth > 0 AND other.id IN taken
               AND other.canonical IN ('', other.url)
               WHERE page.id IN taken""",
            (KEPT, max_pages),
        ).fetchall()
        if len(taken) < max_pages:
            skipped[NOT_ASKED] = db.execute("SELECT count(*) FROM page WHERE state = ?", (WAITING,)).fetchone()[0]
    starts = {id: start for id, start, elsewhere in taken if not elsewhere}
    skipped[OTHER_ADDRESS] = len(taken) - len(starts)
    return [starts[id] for id in _walk(children) if id in starts], +skipped


def _walk(children: dict[int | None, list[int]]) -> Iterator[int]:
    stack = children.get(None, [])[::-1]
    while stack:
        yield (id := stack.pop())
        stack += children.get(id, [])[::-1]
