"""Hostile inputs: mutated real pages through Herdsman's page-to-document path, watched from outside.

    python benchmarks/refinery/hostile.py CORPUS OUT [--inputs 100000] [--seed 1] [--shard 0 --shards 1] [--seconds 20]

Each input is a real page of the corpus after one or more mutations; number and seed alone decide which. Workers take
pages one by one under a limit of memory (RLIMIT_AS); the parent sees when a page was begun, kills a worker that exceeds
the time limit and starts another. A crash, a hang, a memory error or an exception is a finding: the page is written to
OUT/findings. Every page must end as a document or as a drop with a reason, which are counted in OUT/hostile.json.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import multiprocessing
import random
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import psutil
from chain import records
from corpus import record

Mutation = Callable[[random.Random, bytes, list[bytes]], bytes]
WORDS = ["the", "of", "and", "page", "für", "это", "日本語", "données", "if", "return", "0x7f", "∑"]
TAGS = ["div", "span", "p", "b", "i", "a", "table", "tr", "td", "ul", "li", "pre", "code", "math", "svg", "font", "em"]
SCRIPT = "function f(a){return a.map(x=>x<3?'</p>':\"<p>\")}/*<!--*/ var s='<scr'+'ipt>';\n"
# Pieces put somewhere into a page, and how often each may be repeated there.
FLOODS: dict[str, tuple[list[str], list[int]]] = {
    "closing tags": ([f"</{tag}>" for tag in TAGS], [1_000, 30_000, 200_000]),
    "unclosed tags": ([f"<{tag} class='c'>w " for tag in TAGS], [500, 5_000, 30_000]),
    "misnested": (["<b><i><p>x</b></i></p>", "<table><a><tr><b>x</table></a>", "<a><div><a></div>", "<p><font><b>",
                   "<select><table><option>", "<svg><p><math><mi></svg>"], [50, 2_000, 20_000]),
    "deep lists and tables": (["<table><tr><td>cell ", "<ul><li>item ", "<dl><dt>term<dd>", "<blockquote><p>said "],
                              [100, 400, 3_000]),
    "wide table": (["<tr>" + "<td>1" * 10, "<tr>" + "<td colspan=9 rowspan=9>x" * 200, "<td>"], [10, 300, 900]),
    "entities": (["&amp;", "&#x1F600;", "&#0;", "&#xD800;", "&#99999999999;", "&lt;p&gt;", "&ContourIntegral;",
                  "&notanentity", "&"], [100, 10_000, 300_000]),
    "NULs": (["\0"], [1, 1_000, 1_000_000]),
    "script as text": ([opening + SCRIPT * 20 for opening in ("<script>", "<p>", "<script><!--<script>", "<style>",
                        "<textarea>", "<title>", "<plaintext>", "<!--", "<![CDATA[", "<noscript>", "<pre>")], [1, 100]),
    "long words": (["a", "日", "a-", "x@y.", "1234 ", "1.", "://", "0:", "$", "\\(", "[", "\u200b", "e\u0301",
                    "'s ", "\n", "\t ", " ", "http://a.b/", "+1-", "a@", "|", "---", "$$x", "\\begin{"],
                   [100, 30_000, 300_000]),
    "repeated line": ([f"<p>{' '.join(WORDS)} {word}.</p>\n" for word in WORDS], [100, 5_000, 30_000]),
}  # fmt: skip
OFTEN = [8, 3, 1]  # how often each of the counts is drawn
ENCODINGS = ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-16", "utf-7", "cp1252", "shift_jis", "gb18030"]
CLAIMS = [
    "utf-16",
    "shift_jis",
    "x-user-defined",
    "utf-7",
    "no-such",
    "iso-2022-jp",
    "windows-1251",
    "hz-gb-2312",
    "🦙",
]


def inside(random: random.Random, page: bytes, piece: bytes) -> bytes:
    at = random.randrange(len(page) + 1)
    return page[:at] + piece + page[at:]


def flood(random: random.Random, page: bytes, name: str) -> bytes:
    pieces, counts = FLOODS[name]
    (count,) = random.choices(counts, OFTEN[: len(counts)])
    return inside(random, page, (random.choice(pieces) * count).encode("utf-8", "replace"))


def nested(random: random.Random, page: bytes, _: list[bytes]) -> bytes:
    tags = random.sample(TAGS, random.choice([1, 1, 2, 3]))
    depth = random.choice([300, 900, 1_100, 5_000, 50_000])
    return inside(random, page, "".join(f"<{tags[number % len(tags)]}>" for number in range(depth)).encode() + b"text")


def attributes(random: random.Random, page: bytes, _: list[bytes]) -> bytes:
    many = " ".join(f"a{number}='v{number}'" for number in range(random.choices([100, 4_000, 100_000], OFTEN)[0]))
    return inside(random, page, f"<div {many}>text</div>".encode())


def flipped(random: random.Random, page: bytes, _: list[bytes]) -> bytes:
    changed = bytearray(page)
    for _ in range(int(len(page) * random.choice([0.0005, 0.01, 0.2]))):
        changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


MUTATIONS: dict[str, Mutation] = {
    **{name: (lambda random, page, others, name=name: flood(random, page, name)) for name in FLOODS},
    "truncated": lambda random, page, others: page[: random.randrange(len(page) + 1)],
    "nested": nested,
    "attributes": attributes,
    "flipped": flipped,
    "wrong encoding": lambda r, page, o: page.decode("utf-8", "replace").encode(r.choice(ENCODINGS), "replace"),
    "lying encoding": lambda r, page, others: f"<meta charset='{r.choice(CLAIMS)}'>".encode() + page,
    "joined": lambda random, page, others: b"".join([page, *random.choices(others, k=random.choice([1, 3, 12]))]),
    "noise": lambda random, page, others: random.randbytes(random.choice([0, 1, 1_000, 300_000])),
}
HUGE_EVERY, ARCHIVE_EVERY = 5_000, 50  # inputs that are a line of 50 MB; inputs that are a damaged WARC file


def make(number: int, seed: int, pages: list[bytes]) -> tuple[str, bytes]:
    """Input `number`: names of its mutations, and its bytes."""
    drawn = random.Random(f"{seed} {number}")
    page = drawn.choice(pages)
    if number % HUGE_EVERY == 0:
        unit = (" ".join(drawn.choices(WORDS, k=200)) + drawn.choice([" ", ""])).encode()
        return "line of 50 MB", b"<p>" + unit * (50_000_000 // len(unit)) + page
    if number % ARCHIVE_EVERY == 1:
        archive = b"".join(record(f"https://hostile.example/{at}", drawn.choice(pages)) for at in range(5))
        return "damaged WARC", drawn.choice([flipped, MUTATIONS["truncated"]])(drawn, archive, pages)
    names = drawn.choices(list(MUTATIONS), k=drawn.choice([1, 1, 2, 3]))
    for name in names:
        page = MUTATIONS[name](drawn, page, pages)
    return " + ".join(names), page


def rows_of(number: int, kind: str, data: bytes) -> list[dict[str, Any]]:
    """Rows as the pages stage stores them; of a damaged archive those that can still be read."""
    from herdsman.pages.warc import read_warc

    if kind == "damaged WARC":
        read = read_warc(io.BytesIO(data), Counter(), 10_000_000)
        found = [(page.url, page.html, page.content_type) for page in read]
    else:
        found = [(f"https://hostile.example/{number}", data, "text/html")]
    common = {"domain": "hostile.example", "crawled_at": "2024-01-01", "source": "hostile", "licence": ""}
    return [{"url": url, "html": html, "content_type": content_type, **common} for url, html, content_type in found]


def bodies(corpus: Path, most: int) -> list[bytes]:
    """HTML of the first records of the corpus."""
    found: list[bytes] = []
    for path in sorted((corpus / "warc").glob("part-*.warc.gz")):
        for member in records(path):
            found.append(gzip.decompress(member).split(b"\r\n\r\n", 2)[2])
            if len(found) == most:
                return found
    return found


def work(pipe: Connection, pages: list[bytes], seed: int, memory: int) -> None:
    """A worker: receives numbers, makes the page, sends it through, answers with its fate."""
    from herdsman.documents.options import DocumentsOptions
    from herdsman.documents.page_to_document import Dropped, document_of

    options = DocumentsOptions()
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    while True:
        number = pipe.recv()
        kind, page = make(number, seed, pages)
        pipe.send(("begun", kind, len(page)))
        started = time.process_time()
        try:
            rows = rows_of(number, kind, page)
            found = [document_of(row, options) for row in rows]
            dropped = [one for one in found if isinstance(one, Dropped)]
            fate = f"dropped: {dropped[-1].dropped_by}" if dropped else "kept" if found else "no page could be read"
            if any(not drop.reason for drop in dropped):
                fate = "finding: dropped without a reason"
        except MemoryError:
            fate = "finding: memory"
        except Exception:
            fate = "finding: " + traceback.format_exc()[-1500:]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pipe.send((fate, round(time.process_time() - started, 3), peak))


class Worker:
    def __init__(self, arguments: tuple[Any, ...]):
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("fork").Process(target=work, args=(theirs, *arguments), daemon=True)
        self.process.start()
        theirs.close()
        self.number, self.kind, self.bytes = -1, "", 0
        self.since = 0.0

    def seconds(self) -> float:
        """CPU seconds of the process so far; a wait without end counts too, at a tenth."""
        times = psutil.Process(self.process.pid).cpu_times()
        return max(times.user + times.system, time.monotonic() / 10)

    def give(self, number: int) -> None:
        self.number, self.kind = number, ""
        self.pipe.send(number)


def main() -> None:
    parser = argparse.ArgumentParser(description="Sends hostile pages through page-to-document.")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shard", type=int, default=0)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20, help="limit for one page, of CPU time")
    parser.add_argument("--memory-mib", type=int, default=4_096, help="limit of a worker's address space; 0: none")
    options = parser.parse_args()
    pages = bodies(options.corpus, 4_000)
    findings = options.out / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    arguments = (pages, options.seed, options.memory_mib << 20)
    numbers = iter(range(options.shard, options.inputs, options.shards))
    fates: Counter[str] = Counter()
    slowest: list[tuple[float, int, str, int, str]] = []
    found: list[dict[str, Any]] = []
    peak = done = 0
    workers = [Worker(arguments) for _ in range(options.workers)]

    def close(worker: Worker, fate: str, seconds: float) -> None:
        nonlocal done, slowest
        done += 1
        if fate.startswith("finding"):
            found.append({"number": worker.number, "kind": worker.kind, "bytes": worker.bytes, "finding": fate})
            _, page = make(worker.number, options.seed, pages)
            (findings / f"{options.seed}-{worker.number}.html").write_bytes(page)
            print(worker.number, worker.kind, worker.bytes, fate[-300:], flush=True)
            fate = fate.splitlines()[0][:40]
        fates[fate] += 1
        slowest = sorted([*slowest, (seconds, worker.number, worker.kind, worker.bytes, fate)], reverse=True)[:40]

    busy: list[Worker] = []
    for worker in workers:
        if (number := next(numbers, None)) is not None:
            worker.give(number)
            busy.append(worker)
    while busy:
        ready = wait([worker.pipe for worker in busy], timeout=0.2)
        for worker in list(busy):
            message: tuple[Any, ...] | None = None
            if worker.pipe in ready:
                try:
                    message = worker.pipe.recv()
                except (EOFError, ConnectionError):
                    worker.process.join()
                    message = (f"finding: crash, exit code {worker.process.exitcode}", 0.0, 0)
            elif worker.kind and worker.seconds() - worker.since > options.seconds:
                worker.process.kill()
                message = (f"finding: hang, over {options.seconds} s", options.seconds, 0)
            if message is None:
                continue
            if message[0] == "begun":
                worker.kind, worker.bytes, worker.since = message[1], message[2], worker.seconds()
                continue
            close(worker, message[0], message[1])
            peak = max(peak, message[2])
            busy.remove(worker)
            if (number := next(numbers, None)) is not None:
                if message[0].startswith(("finding: crash", "finding: hang")):
                    worker = Worker(arguments)
                worker.give(number)
                busy.append(worker)
    result = {
        "inputs": done, "seed": options.seed, "shard": f"{options.shard} of {options.shards}",
        "fates": dict(sorted(fates.items())), "findings": found, "peak_worker_bytes": peak * 1024,
        "slowest": [dict(zip(("cpu_seconds", "number", "kind", "bytes", "fate"), row, strict=True)) for row in slowest],
    }  # fmt: skip
    (options.out / f"hostile-{options.shard}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result | {"slowest": result["slowest"][:8], "findings": len(found)}, indent=1))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
