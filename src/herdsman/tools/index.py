"""A full-text index over documents, in passages: one SQLite file, ranked by BM25.

documents(number, id, title, url, crawled_at, licence)
passages(title, text, document)     FTS5; `document` is the number of the row in `documents`
common(term)                        in more than a fifth of the passages: not looked for beside rarer ones
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import regex

from herdsman.errors import InputError, MachineError
from herdsman.files import atomic_path
from herdsman.tools.tool import Source

FILE, VERSION = "index.sqlite", 1
FIELDS = ("id", "title", "url", "crawled_at", "licence")
MOST_TERMS = 48
PASSAGES_PER_HIT = 10
"""Passages looked at for each document wanted, as several of one document may come before the next one's."""

# Vowel signs of Hindi, Thai and others are marks, which FTS5 would take for the ends of words.
TOKENIZER = "unicode61 remove_diacritics 2 categories 'L* N* M* Co'"
# Scripts without spaces. Between their letters an invisible space is stored, so that each is a word to FTS5, and a
# word of a question, spaced alike, is a phrase.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_BETWEEN = regex.compile(f"(?<=[{UNSPACED}])(?=[{UNSPACED}])")
_SPACE = "\u200b"
_WORD = regex.compile(
    f"[{UNSPACED}]+|(?:(?![{UNSPACED}])[\\p{{L}}\\p{{N}}\\p{{M}}\\p{{Co}}])+"
)  # as `TOKENIZER` has it
_BREAKS = (regex.compile(r"\n\s*\n"), regex.compile(r"\n"), regex.compile(r"(?<=[.!?])\s"), regex.compile(r"\s"))

SCHEMA = f"""
PRAGMA journal_mode = off; PRAGMA synchronous = off; PRAGMA user_version = {VERSION};
CREATE TABLE documents(number INTEGER PRIMARY KEY, id TEXT, title TEXT, url TEXT, crawled_at TEXT, licence TEXT);
CREATE VIRTUAL TABLE passages USING fts5(title, text, document UNINDEXED, tokenize="{TOKENIZER}");
"""
COMMON = """
INSERT INTO passages(passages) VALUES('optimize');
CREATE VIRTUAL TABLE temp.terms USING fts5vocab(main, passages, row);
CREATE TABLE common(term TEXT PRIMARY KEY) WITHOUT ROWID;
INSERT INTO common SELECT term FROM terms WHERE doc * 5 > (SELECT count(*) FROM passages);
"""
SEARCH = """
SELECT documents.*, found.text FROM
  (SELECT document, text, rank FROM passages WHERE passages MATCH ? ORDER BY rank LIMIT ?) AS found
  JOIN documents ON documents.number = found.document ORDER BY found.rank
"""


@dataclass(frozen=True)
class Hit:
    """A passage of a document that fits a question, with where the document comes from."""

    id: str
    title: str
    url: str
    crawled_at: str
    licence: str
    text: str

    def source(self) -> Source:
        return Source(self.title, self.url, self.text)


def build_index(documents: Iterable[Mapping[str, Any]], path: Path, passage_characters: int) -> dict[str, int]:
    """Writes the index of documents (id, title, url, crawled_at, licence, text) as one file, whole or not at all.

    The same documents in the same order give the same bytes with the same SQLite.

    Returns:
        How many documents and passages it holds, and its bytes.

    Raises:
        MachineError: SQLite was built without FTS5, or the disk is full.
    """
    counts = {"documents": 0, "passages": 0}
    with atomic_path(path) as beside:
        beside.unlink(missing_ok=True)
        try:
            with closing(sqlite3.connect(beside)) as database:
                database.executescript(SCHEMA)
                for number, document in enumerate(documents):
                    fields = [document[name] or "" for name in FIELDS]
                    database.execute("INSERT INTO documents VALUES(?, ?, ?, ?, ?, ?)", (number, *fields))
                    title, text = _spaced(fields[1]), _spaced(document["text"])
                    rows = [(title, passage, number) for passage in passages(text, passage_characters)]
                    database.executemany("INSERT INTO passages VALUES(?, ?, ?)", rows)
                    counts["documents"] += 1
                    counts["passages"] += len(rows)
                database.commit()
                database.executescript(COMMON)
        except sqlite3.OperationalError as error:
            raise _machine(error, path) from error
    return counts | {"bytes": path.stat().st_size}


def passages(text: str, characters: int) -> Iterator[str]:
    """The text in pieces of at most `characters`, as few as that gives, cut at the best break in their second half.

    A break between paragraphs is better than one between lines, sentences or words, in this order. The spaces at cuts
    are left out; nothing else is.
    """
    text = text.strip()
    while len(text) > characters:
        window = text[: characters + 1]
        ends = ([break_.start() for break_ in kind.finditer(window, characters // 2)] for kind in _BREAKS)
        cut = next((found[-1] for found in ends if found), characters)
        yield text[:cut].rstrip()
        text = text[cut:].lstrip()
    if text:
        yield text


class Index:
    """An index as `build_index` wrote it, to read. May be used by several threads.

    Raises:
        InputError: the file is missing or is not such an index.
    """

    def __init__(self, path: Path):
        self.path = path
        if not path.is_file():
            raise InputError("no search index is here", where=path, do="run the search stage first")
        try:
            with closing(self._connect()) as database:
                (version,) = database.execute("PRAGMA user_version").fetchone()
                database.execute("SELECT count(*) FROM common").fetchone()
        except sqlite3.DatabaseError as error:
            raise InputError(f"is not a search index ({error})", where=path, do="run the search stage again") from error
        if version != VERSION:
            raise InputError(
                f"is a search index of version {version}, not {VERSION}", where=path, do="run the search stage again"
            )

    def _connect(self) -> sqlite3.Connection:
        # Immutable: nothing is locked or written beside the file, so it may lie where nothing can be written.
        return sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)

    def search(self, question: str, documents: int) -> list[Hit]:
        """The best passages of different documents, best first; a passage fits if it has any of the question's words.

        Any text is a question: none is read as a query language.

        Raises:
            sqlite3.DatabaseError: the file was damaged after it was opened.
        """
        terms = list(dict.fromkeys(_spaced(word) for word in _WORD.findall(question)))[:MOST_TERMS]
        with closing(self._connect()) as database:
            # Words such as "the" take nine tenths of the time, and hardly change what comes first.
            telling = [term for term in terms if not _is_common(database, term)]
            return _hits(database, telling, documents) or _hits(database, terms, documents)


def _hits(database: sqlite3.Connection, terms: list[str], documents: int) -> list[Hit]:
    if not terms:
        return []
    query = " OR ".join(f'"{term}"' for term in terms)
    hits: dict[str, Hit] = {}
    for row in database.execute(SEARCH, (query, documents * PASSAGES_PER_HIT)):
        _, id_, title, url, crawled_at, licence, text = row
        hits.setdefault(id_, Hit(id_, title, url, crawled_at, licence, text.replace(_SPACE, "")))
    return list(hits.values())[:documents]


def _is_common(database: sqlite3.Connection, term: str) -> bool:
    return bool(database.execute("SELECT 1 FROM common WHERE term = ?", (term.lower(),)).fetchone())


def _spaced(text: str) -> str:
    return _BETWEEN.sub(_SPACE, text)


def _machine(error: sqlite3.OperationalError, path: Path) -> Exception:
    if "fts5" in str(error):
        return MachineError("SQLite here has no FTS5", do="use a Python whose sqlite3 was built with it")
    if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
        return MachineError(str(error), where=path, do="mend that and run again: finished work is kept")
    return error
