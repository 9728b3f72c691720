"""Herdsman's pretraining beside nanochat's: held-out bits per byte for the same seconds of training on the same text.

    herdsman raise recipes/tiny.toml --until tokens
    python benchmarks/training/nanochat.py herds/tiny --nanochat CHECKOUT --svg curves.svg
    python benchmarks/training/nanochat.py herds/tiny --nanochat CHECKOUT --depth 2 3 --batch 2048 --seconds 120

Both read the same tokens in the same order, in batches of their own, and are measured by one function. Seconds a step
are measured first, in turns and without anything between, medians; they say how many steps fit into `--seconds`, which
both schedules must know in advance. So what else the machine does during the runs does not matter. Compiling and
evaluation do not count. CHECKOUT is nanochat's repository, which needs no installation: only its model, optimizer and
attention are imported.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import herdsman  # isort: skip  # noqa: F401  it says how torch's threads wait for each other, so it comes first
import torch
from curves import draw
from trainers import Contestant, Herdsman, Nanochat, Stretch, Trainer, Windows, rows_of

from herdsman.documents.store import read_documents
from herdsman.evaluation.perplexity import choose_held_out, windows
from herdsman.files import read_json, write_json
from herdsman.recipe import load_recipe
from herdsman.tokens.streams import TokenStreams
from herdsman.tokens.tokenizer import Tokenizer

Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}
POINTS = 12
ROUNDS, STEPS_A_ROUND, WARMUP_STEPS = 7, 4, 3


@dataclass
class Run:
    """One trained model: its curve as (seconds, tokens, bits per byte), calibrated seconds."""

    name: str
    seed: int
    parameters: int
    steps: int = 0
    tokens: int = 0
    curve: list[tuple[float, int, float]] = field(default_factory=list)


def held_out(herd: Path, tokenizer: Tokenizer, limit_bytes: int, length: int) -> Windows:
    """Documents that nobody trained on, in windows that predict each of their tokens once."""
    documents = choose_held_out(read_documents(herd / "documents", "held_out", ["id", "category", "text"]), limit_bytes)
    rows = [
        (context + continuation[:-1], continuation)
        for document in documents
        for context, continuation in windows(tokenizer.encode(document.text), tokenizer.bos, length)
    ]
    inputs, targets = torch.full((len(rows), length), tokenizer.bos), torch.full((len(rows), length), -1)
    for number, (read, predicted) in enumerate(rows):
        inputs[number, : len(read)] = torch.tensor(read)
        targets[number, : len(predicted)] = torch.tensor(predicted)
    return Windows(inputs, targets, sum(document.size for document in documents))


def step_seconds(contestants: Sequence[Contestant], streams: TokenStreams, clock: Clock) -> dict[str, float]:
    """Seconds of a step by contestant and batch: medians over rounds in which all take turns."""
    ready: dict[str, Iterator[float]] = {}
    for contestant in contestants:
        for stretch in contestant.stretches(1.0):
            key = step_key(contestant, stretch)
            ready[key] = ready.get(key) or _timed_steps(contestant, stretch, streams, clock)
    measured: dict[str, list[float]] = {key: [] for key in ready}
    for _ in range(ROUNDS):
        for key, steps in ready.items():
            measured[key] += [next(steps) for _ in range(STEPS_A_ROUND)]
    return {key: statistics.median(seconds) for key, seconds in measured.items()}


def step_key(contestant: Contestant, stretch: Stretch) -> str:
    return f"{contestant.name}: {stretch.batch_tokens:,} tokens a step"


def _timed_steps(contestant: Contestant, stretch: Stretch, streams: TokenStreams, clock: Clock) -> Iterator[float]:
    count = WARMUP_STEPS + ROUNDS * STEPS_A_ROUND
    trainer = contestant.trainer(1, contestant.stretches(1.0))
    whole = Stretch(count * stretch.batch_tokens, stretch.batch_tokens, stretch.length, stretch.mix)
    order = rows_of(streams, [whole], 1)
    for number in range(count):
        started = clock()
        tokens = number * stretch.batch_tokens
        trainer.step(order.read(tokens, stretch.batch_tokens // stretch.length, stretch.length), number, tokens)
        if number >= WARMUP_STEPS:
            yield clock() - started


def fit(contestant: Contestant, seconds: dict[str, float], budget_seconds: float) -> list[Stretch]:
    """The contestant's run, as long as the seconds allow."""
    parts = contestant.stretches(1.0)
    cost = sum(part.tokens / part.batch_tokens * seconds[step_key(contestant, part)] for part in parts)
    return contestant.stretches(budget_seconds / cost)


def train(
    contestant: Contestant, stretches: Sequence[Stretch], seconds: dict[str, float], seed: int, streams: TokenStreams,
    text: Windows,
) -> Run:  # fmt: skip
    trainer: Trainer = contestant.trainer(seed, stretches)
    order = rows_of(streams, stretches, seed)
    total = sum(part.tokens // part.batch_tokens for part in stretches)
    marks = {round(total * point / POINTS) for point in range(1, POINTS + 1)}
    run, spent = Run(contestant.name, seed, trainer.parameters), 0.0
    for part in stretches:
        for _ in range(part.tokens // part.batch_tokens):
            rows = order.read(run.tokens, part.batch_tokens // part.length, part.length)
            trainer.step(rows, run.steps, run.tokens)
            run.steps, run.tokens = run.steps + 1, run.tokens + part.batch_tokens
            spent += seconds[step_key(contestant, part)]
            if run.steps in marks:
                bits = trainer.nats(text) / text.bytes / math.log(2)
                run.curve.append((round(spent, 3), run.tokens, round(bits, 5)))
    return run


def table(runs: Sequence[Run], budget_seconds: float) -> str:
    lines = [
        f"| | parameters | steps | tokens | tokens/s | bits per byte after {budget_seconds:g} s | of the seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(run.name for run in runs):
        mine = [run for run in runs if run.name == name]
        ends = [run.curve[-1][2] for run in mine]
        first = mine[0]
        lines.append(
            f"| {name} | {first.parameters / 1e6:.2f}M | {first.steps:,} | {first.tokens:,} | "
            f"{first.tokens / first.curve[-1][0]:,.0f} | {statistics.mean(ends):.4f} | "
            f"{', '.join(f'{bits:.4f}' for bits in ends)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("herd", type=Path, help="workspace raised until tokens")
    parser.add_argument("--nanochat", type=Path, help="nanochat's checkout; Herdsman alone if left out")
    parser.add_argument("--recipe", type=Path, default=Path(__file__).with_suffix(".toml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="changes to the recipe")
    parser.add_argument("--depth", type=int, nargs="*", default=[2], help="nanochat's layers, 64 channels each")
    parser.add_argument("--batch", type=int, nargs="*", default=[2048], help="nanochat's batch, tokens")
    parser.add_argument("--rate", type=float, nargs="*", default=[1, 2], help="multiplies nanochat's learning rates")
    parser.add_argument("--dtype", default="bfloat16", help="nanochat's; on a CPU it takes float32 unless told")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu, with one thread, on a busy machine")
    parser.add_argument("--speeds", type=Path, help="seconds a step: read from this file if it exists, else put there")
    parser.add_argument("--held-out-bytes", type=int, default=200_000)
    parser.add_argument("--out", type=Path, default=Path("curves"), help="folder of curves, one file a run")
    parser.add_argument("--svg", type=Path, help="where the drawing of all curves in that folder goes")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tokenizer = Tokenizer.load(args.herd / "tokenizer")
    streams, mixes = TokenStreams.open(args.herd / "tokens"), read_json(args.herd / "documents" / "mix.json")
    recipe = load_recipe(args.recipe, args.set)
    contestants: list[Contestant] = [Herdsman("Herdsman", recipe, tokenizer.vocab_size, mixes)]
    length = recipe.pretrain.phases[0].sequence_length
    if args.nanochat:
        os.environ["NANOCHAT_DTYPE"] = args.dtype
        sys.path.insert(0, str(args.nanochat))
        for depth, batch, rate in product(args.depth, args.batch, args.rate):
            name = f"nanochat, {depth} layers, batches of {batch:,}" + (
                f", {rate:g} times its rates" if rate != 1 else ""
            )
            contestants.append(
                Nanochat(name, tokenizer.vocab_size, mixes["pretrain"], 1 << 20, depth, batch, length, rate=rate)
            )
    if args.speeds and args.speeds.exists():
        seconds = read_json(args.speeds)
    else:
        seconds = step_seconds(contestants, streams, CLOCKS[args.clock])
        if args.speeds:
            write_json(args.speeds, seconds)
    text = held_out(args.herd, tokenizer, args.held_out_bytes, length)
    for seed, contestant in product(args.seeds, contestants):
        run = train(contestant, fit(contestant, seconds, args.seconds), seconds, seed, streams, text)
        write_json(args.out / f"{contestant.name}, {seed}.json", vars(run))
    runs = [Run(**read_json(path)) for path in sorted(args.out.glob("*.json"))]
    print(table(runs, args.seconds))
    if args.svg:
        title = f"Held-out bits per byte in {args.seconds:g} seconds of training"
        curves = [(run.name, [(seconds, bits) for seconds, _, bits in run.curve]) for run in runs]
        args.svg.write_text(draw(title, "seconds of training", "bits per byte", curves, 2.6), encoding="utf-8")


if __name__ == "__main__":
    main()
