"""What weights of fewer bits cost: bits per byte of SmolLM2-135M-Instruct on this project's own documentation.

    python benchmarks/generation/quality.py [--tokens 8192] [--window 1024]

The text is `docs/*.md` and README.md, written after the model was trained. Windows do not overlap; all but a window's
first token are scored, and the bytes of these tokens counted. Beside it: how often the likeliest token is float32's.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from pathlib import Path

import torch
from speed import prepare
from torch.nn.functional import cross_entropy

from herdsman.generation.cache import PagedCache, blocks_for
from herdsman.generation.native.runner import NativeRunner
from herdsman.generation.quantize import int8
from herdsman.generation.runner import Runner, Step, TorchRunner
from herdsman.tokens.foreign import load_tokenizer

ROOT = Path(__file__).parents[2]


def logits_of(runner: Runner, ids: list[int]) -> torch.Tensor:
    cache = PagedCache(runner.options, blocks_for(len(ids)), runner.dtype)
    table = cache.allocate(blocks_for(len(ids)))
    return runner.forward(Step(torch.tensor(ids), [0, len(ids)], [0], [table], torch.arange(len(ids))), cache)


def main() -> None:
    parser = argparse.ArgumentParser(description="What weights of fewer bits cost.")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--window", type=int, default=1024)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = prepare("smollm2", Path(scratch, "smollm2"))
        tokenizer = load_tokenizer(Path(scratch, "smollm2", "tokenizer"))
    text = "\n\n".join(
        path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    )
    ids = tokenizer.encode(text)[: options.tokens]
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    runners: dict[str, Runner] = {
        "float32, torch": TorchRunner(model, torch.float32),
        "bfloat16, torch": TorchRunner(model, torch.bfloat16),
        "int8, torch": TorchRunner(model, torch.bfloat16, int8),
        "bfloat16, native": NativeRunner(model, "bfloat16"),
        "int8, native": NativeRunner(model, "int8"),
    }
    nats, same = dict.fromkeys(runners, 0.0), dict.fromkeys(runners, 0)
    scored = size = 0
    for start in range(0, len(ids) - 1, options.window):
        window = ids[start : start + options.window]
        targets = torch.tensor(window[1:])
        scored += len(targets)
        size += len(tokenizer.decode_bytes(window[1:]))
        exact = None
        for name, runner in runners.items():
            logits = logits_of(runner, window)[:-1]
            exact = logits.argmax(-1) if exact is None else exact
            nats[name] += float(cross_entropy(logits, targets, reduction="sum"))
            same[name] += int((logits.argmax(-1) == exact).sum())
    print(
        f"{scored} tokens, {size} bytes\n\n| weights | bits a byte | more than float32 | likeliest token is float32's |"
    )
    print("|---|---|---|---|")
    base = nats["float32, torch"]
    for name, found in nats.items():
        bits = found / math.log(2) / size
        print(f"| {name} | {bits:.4f} | {100 * (found / base - 1):+.2f}% | {100 * same[name] / scored:.1f}% |")


if __name__ == "__main__":
    main()
