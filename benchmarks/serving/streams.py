"""Many streams at once: errors, fairness, the first token beside the engine's, and what a streamed token costs.

    python benchmarks/serving/streams.py MODEL [--streams 64] [--seconds 300] [--tokens 128] [--weights auto]

MODEL is the folder of an imported model, or of a herd: then its guard holds each sentence back until it is whole. The
server runs as `herdsman serve` in a process of its own, on the same cores as this client. Each stream asks again as
soon as it has been answered, always something new. Three parts:

- load: so many streams for so long; tokens of each stream, first tokens, errors, tokens a second;
- first: the first token of a new question over HTTP, on the page (in Chromium, if it and playwright are installed) and
  of an engine in this process, in turns, nothing else running;
- cost: CPU seconds of the server for the same 16 answers, streamed and whole, in turns.

Writes Markdown to standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

QUESTION = "Question {}: how do I read a file line by line in Python, and what should I look out for?"
COST_STREAMS, COST_ROUNDS, FIRST_ROUNDS = 16, 7, 25
QUIET_SECONDS = 0.5
"""For the browser to end what it does after an answer."""


@contextmanager
def serving(model: Path, weights: str) -> Iterator[tuple[str, psutil.Process]]:
    command = [sys.executable, "-m", "herdsman", "serve", f"bench={model}", "--port", "0", "--tools", "none"]
    running = subprocess.Popen([*command, "--weights", weights], stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    said = running.stderr.readline()
    while "http://" not in said:
        if running.poll() is not None:
            raise SystemExit(said)
        said = running.stderr.readline()
    drain = subprocess.Popen(["cat"], stdin=running.stderr, stdout=sys.stderr)
    try:
        yield re.findall(r"http://\S+", said)[0], psutil.Process(running.pid)
    finally:
        running.terminate()
        running.wait(60)
        drain.wait(5)


@dataclass
class Stream:
    """What one stream has had so far."""

    tokens: int = 0
    answers: int = 0
    first_seconds: list[float] = field(default_factory=list)
    longest_gap_seconds: float = 0.0
    errors: list[str] = field(default_factory=list)


async def ask(address: str, number: int, tokens: int, stream: Stream, streamed: bool = True) -> None:
    """One question and its answer."""
    host = urlsplit(address)
    body = json.dumps(
        {
            "model": "bench",
            "messages": [{"role": "user", "content": QUESTION.format(number)}],
            "max_tokens": tokens,
            "seed": number,
            "temperature": 1,
            "stream": streamed,
            "stream_options": {"include_usage": True} if streamed else None,
        }
    ).encode()
    reader, writer = await asyncio.open_connection(host.hostname, host.port, limit=2**22)
    try:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        started = last = time.perf_counter()
        status = await reader.readline()
        if b" 200 " not in status:
            stream.errors.append((status + await reader.read()).decode(errors="replace")[:300])
            return
        if not streamed:
            answer = await reader.read()
            stream.tokens += json.loads(answer[answer.index(b"\r\n\r\n") :])["usage"]["completion_tokens"]
            return
        used = 0
        async for line in reader:
            if not line.startswith(b"data: {"):
                continue
            now = time.perf_counter()
            event = json.loads(line[6:])
            if "error" in event:
                stream.errors.append(str(event["error"]))
            elif event["choices"] and event["choices"][0]["delta"].get("content"):
                if not used:
                    stream.first_seconds.append(now - started)
                stream.longest_gap_seconds = max(stream.longest_gap_seconds, now - last)
                last, used = now, used + 1
            elif not event["choices"]:
                stream.answers += 1
                stream.tokens += event["usage"]["completion_tokens"]
        if not used:
            stream.errors.append("an answer without text")
    finally:
        writer.close()


async def load(address: str, count: int, seconds: float, tokens: int) -> list[Stream]:
    streams = [Stream() for _ in range(count)]
    end = time.monotonic() + seconds

    async def run(place: int, stream: Stream) -> None:
        number = place
        while time.monotonic() < end:
            await ask(address, number, tokens, stream)
            number += count

    await asyncio.gather(*(run(place, stream) for place, stream in enumerate(streams)))
    return streams


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def report_load(streams: list[Stream], seconds: float, cpu: float) -> None:
    tokens = sorted(stream.tokens for stream in streams)
    firsts = sorted(value for stream in streams for value in stream.first_seconds)
    errors = [error for stream in streams for error in stream.errors]
    fairness = sum(tokens) ** 2 / (len(tokens) * sum(count**2 for count in tokens))
    print("| streams | seconds | answers | errors | tokens/s | tokens of a stream: least, median, most | fairness |")
    print("|---|---|---|---|---|---|---|")
    answers = sum(stream.answers for stream in streams)
    print(
        f"| {len(streams)} | {seconds:.0f} | {answers:,} | {len(errors)} | {sum(tokens) / seconds:,.0f} "
        f"| {tokens[0]:,}, {statistics.median(tokens):,.0f}, {tokens[-1]:,} | {fairness:.4f} |\n"
    )
    print(
        "Fairness is Jain's index: 1 where all streams have had the same. "
        f"First token: median {statistics.median(firsts):.3f} s, 99th percentile "
        f"{firsts[int(len(firsts) * 0.99)]:.3f} s, longest {firsts[-1]:.3f} s; longest wait of a stream for a "
        f"token {max(stream.longest_gap_seconds for stream in streams):.3f} s; server {cpu / seconds:.2f} cores.\n"
    )
    for error in errors[:5]:
        print(f"    {error}")


def engine_of(model: Path, weights: str) -> Callable[[str, int], float]:
    """Seconds until the first token of a question, by an engine in this process."""
    from herdsman.generation.local import LocalEngine
    from herdsman.generation.sampling import Sampling
    from herdsman.model.store import load_model
    from herdsman.serving.places import find_models
    from herdsman.tokens.chat import chat_format
    from herdsman.tokens.foreign import load_tokenizer
    from herdsman.tokens.messages import Message

    place = find_models([f"bench={model}"])["bench"]
    tokenizer = load_tokenizer(place.tokenizer)
    engine = LocalEngine(load_model(place.model), tokenizer, weights=weights)  # type: ignore[arg-type]
    format = chat_format(tokenizer)

    def first(question: str, seed: int) -> float:
        started = time.perf_counter()
        ids, _ = format.encode([Message("user", question)], reply=True)
        with closing(engine.stream(ids, Sampling(1, temperature=1, seed=seed))) as pieces:
            next(pieces)
        return time.perf_counter() - started

    return first


async def report_first(address: str, engine: Callable[[str, int], float]) -> None:
    ours: list[float] = []
    http = Stream()
    async with on_page(address) as asked:
        paged: list[float] = []
        for number in range(FIRST_ROUNDS + 3):
            await asyncio.sleep(QUIET_SECONDS)
            ours.append(engine(QUESTION.format(10**6 + number), number))
            await ask(address, 2 * 10**6 + number, 1, http)
            if asked:
                paged.append(await asked(QUESTION.format(4 * 10**6 + number)))
    print(f"Engine: first token after {1000 * statistics.median(ours[3:]):.1f} ms (median).")
    for name, found in (("Over HTTP", http.first_seconds), ("On the page, in Chromium", paged)):
        if found:
            differences = sorted(there - here for there, here in zip(found[3:], ours[3:], strict=True))
            print(
                f"{name}: {1000 * statistics.median(found[3:]):.1f} ms; more than the engine by "
                f"{1000 * differences[0]:.1f}, {1000 * statistics.median(differences):.1f} and "
                f"{1000 * differences[-1]:.1f} ms (least, median, most of {FIRST_ROUNDS} questions in turns)."
            )
    print()


@asynccontextmanager
async def on_page(address: str) -> AsyncIterator[Callable[[str], Awaitable[float]] | None]:
    """Asks on the page and gives what it says of the first token, in seconds; None where there is no Chromium."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        yield None
        return
    from playwright.async_api import async_playwright, expect

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = await browser.new_page()
        await page.goto(address)
        await page.locator("#tries button").first.wait_for()

        async def asked(question: str) -> float:
            await page.evaluate("newChat(['bench'])")
            await page.locator("#prompt").fill(question)
            await page.keyboard.press("Enter")
            await expect(page.locator(".facts")).to_contain_text("first", timeout=60_000)
            return float(await page.evaluate("chat.turns[0].answers[0].versions[0].first"))

        await page.evaluate("localStorage.setItem('herdsman.settings', JSON.stringify({ max: '2', temperature: 1 }))")
        yield asked
        await browser.close()


async def report_cost(address: str, process: psutil.Process, tokens: int) -> None:
    costs: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(COST_ROUNDS):
        for streamed in (True, False):
            streams = [Stream() for _ in range(COST_STREAMS)]
            before = cpu_seconds(process)
            numbers = range(3 * 10**6 + turn * 100, 3 * 10**6 + turn * 100 + COST_STREAMS)
            await asyncio.gather(
                *(ask(address, number, tokens, one, streamed) for number, one in zip(numbers, streams, strict=True))
            )
            costs[streamed].append((cpu_seconds(process) - before) / sum(one.tokens for one in streams))
    whole, streamed_cost = (statistics.median(costs[kind]) for kind in (False, True))
    print(
        f"{COST_STREAMS} answers at a time: {1e6 * streamed_cost:,.0f} µs of CPU a token streamed, {1e6 * whole:,.0f} "
        f"whole: streaming costs {1e6 * (streamed_cost - whole):,.0f} µs a token (medians of {COST_ROUNDS} rounds in "
        "turns).\n"
    )


async def main(options: argparse.Namespace) -> None:
    with serving(options.model, options.weights) as (address, process):
        await ask(address, 0, 4, Stream())  # The model is opened now.
        print(f"## {options.model.name}, weights {options.weights}, {os.cpu_count()} cores\n")
        await report_first(address, engine_of(options.model, options.weights))
        await report_cost(address, process, options.tokens)
        before = cpu_seconds(process)
        started = time.monotonic()
        streams = await load(address, options.streams, options.seconds, options.tokens)
        taken = time.monotonic() - started
        report_load(streams, taken, cpu_seconds(process) - before)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--weights", default="auto")
    asyncio.run(main(parser.parse_args()))
