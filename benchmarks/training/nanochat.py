"""Herdsman's pretraining beside nanochat's: held-out bits per byte for the same seconds of training on the same text.

    herdsman raise recipes/tiny.toml --until tokens
    python benchmarks/training/nanochat.py herds/tiny --nanochat CHECKOUT
    python benchmarks/training/nanochat.py herds/tiny --nanochat CHECKOUT --depth 3 --batch 4096 --seconds 120 --seeds 3

Both read the same tokens in the same order, in batches of their own, and are measured by one function. Seconds a step
are measured first, in turns and without anything between, medians; they say how many steps fit into `--seconds`, which
both schedules must know in advance. So what else the machine does during the runs does not matter. Compiling and
evaluation do not count. CHECKOUT is nanochat's repository, which needs no installation: only its model, optimizer and
attention are imported.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from contestants import Contestant, Herdsman, Nanochat, Stretch, Trainer, Windows, rows_of
from curves import draw

from herdsman.documents.store import read_documents
from herdsman.evaluation.perplexity import choose_held_out, windows
from herdsman.files import read_json, write_json
from herdsman.recipe import load_recipe
from herdsman.tokens.streams import TokenStreams
from herdsman.tokens.tokenizer import Tokenizer

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


def step_seconds(
    contestants: Sequence[Contestant], streams: TokenStreams
) -> dict[tuple[str, int], tuple[float, float]]:
    """Seconds and CPU seconds of a step by contestant and batch: medians over rounds in which all take turns."""
    ready: dict[tuple[str, int], Iterator[tuple[float, float]]] = {}
    for contestant in contestants:
        for stretch in contestant.stretches(1.0):
            ready.setdefault((contestant.name, stretch.batch_tokens), _timed_steps(contestant, stretch, streams))
    measured: dict[tuple[str, int], list[tuple[float, float]]] = {key: [] for key in ready}
    for _ in range(ROUNDS):
        for key, steps in ready.items():
            measured[key] += [next(steps) for _ in range(STEPS_A_ROUND)]
    return {key: tuple(statistics.median(kind) for kind in zip(*rows, strict=True)) for key, rows in measured.items()}  # type: ignore[misc]


def _timed_steps(contestant: Contestant, stretch: Stretch, streams: TokenStreams) -> Iterator[tuple[float, float]]:
    count = WARMUP_STEPS + ROUNDS * STEPS_A_ROUND
    whole = [Stretch(count * stretch.batch_tokens, stretch.batch_tokens, stretch.length, stretch.mix)]
    stretches = whole if len(contestant.stretches(1.0)) == 1 else contestant.stretches(1.0)
    trainer, order = contestant.trainer(1, stretches), rows_of(streams, whole, 1)
    for number in range(count):
        wall, cpu = time.perf_counter(), time.process_time()
        tokens = number * stretch.batch_tokens
        rows = order.read(tokens, stretch.batch_tokens // stretch.length, stretch.length)
        trainer.step(rows, number, tokens)
        if number >= WARMUP_STEPS:
            yield time.perf_counter() - wall, time.process_time() - cpu


def fit(contestant: Contestant, seconds: dict[tuple[str, int], float], budget_seconds: float) -> list[Stretch]:
    """The contestant's run, as long as the seconds allow."""

    def cost(stretches: Sequence[Stretch]) -> float:
        return sum(part.tokens / part.batch_tokens * seconds[contestant.name, part.batch_tokens] for part in stretches)

    scale = budget_seconds / cost(contestant.stretches(1.0))
    return contestant.stretches(scale)


def train(
    contestant: Contestant, stretches: Sequence[Stretch], seconds: dict[tuple[str, int], float], seed: int,
    streams: TokenStreams, text: Windows,
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
            spent += seconds[contestant.name, part.batch_tokens]
            if run.steps in marks:
                bits = trainer.nats(text) / text.bytes / 0.6931471805599453
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
    parser.add_argument("--recipe", type=Path, default=Path("recipes/tiny.toml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="changes to the recipe")
    parser.add_argument("--depth", type=int, nargs="*", default=[3])
    parser.add_argument("--batch", type=int, nargs="*", default=[2048], help="nanochat's batch, tokens")
    parser.add_argument("--rate", type=float, default=1.0, help="multiplies nanochat's learning rates")
    parser.add_argument("--length", type=int, default=256, help="nanochat's sequences, tokens")
    parser.add_argument("--dtype", default="bfloat16", help="nanochat's; on a CPU it takes float32 unless told")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--held-out-bytes", type=int, default=200_000)
    parser.add_argument("--out", type=Path, help="where curves go, .json")
    parser.add_argument("--svg", type=Path, help="where the drawing goes")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tokenizer = Tokenizer.load(args.herd / "tokenizer")
    streams, mixes = TokenStreams.open(args.herd / "tokens"), read_json(args.herd / "documents" / "mix.json")
    recipe = load_recipe(args.recipe, args.set)
    contestants: list[Contestant] = [Herdsman("Herdsman", recipe, tokenizer.vocab_size, mixes)]
    if args.nanochat:
        os.environ["NANOCHAT_DTYPE"] = args.dtype
        sys.path.insert(0, str(args.nanochat))
        contestants += [
            Nanochat(
                f"nanochat, depth {depth}, batch {batch:,}", tokenizer.vocab_size, mixes["pretrain"], 1 << 20, depth,
                batch, args.length, rate=args.rate,
            )  # fmt: skip
            for depth in args.depth
            for batch in args.batch
        ]
    measured = step_seconds(contestants, streams)
    seconds = {key: wall for key, (wall, _) in measured.items()}
    for (name, batch), (wall, cpu) in measured.items():
        print(f"{name}: {batch:,} tokens a step in {wall * 1e3:.1f} ms, {cpu * 1e3:.1f} ms of CPU", file=sys.stderr)
    text = held_out(args.herd, tokenizer, args.held_out_bytes, recipe.pretrain.phases[0].sequence_length)
    runs = []
    for seed in range(1, args.seeds + 1):
        for contestant in contestants:
            runs.append(train(contestant, fit(contestant, seconds, args.seconds), seconds, seed, streams, text))
            print(json.dumps(vars(runs[-1])), file=sys.stderr, flush=True)
    print(table(runs, args.seconds))
    if args.out:
        write_json(args.out, [vars(run) for run in runs])
    if args.svg:
        args.svg.write_text(draw([(run.name, run.curve) for run in runs]), encoding="utf-8")


if __name__ == "__main__":
    main()
