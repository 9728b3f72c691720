"""lm-evaluation-harness through the API and in process: the same model, the same tasks, the same answers?

    python -m venv HARNESS && HARNESS/bin/pip install 'lm-eval[api,hf]'
    python benchmarks/serving/harness.py HERD --harness HARNESS/bin/python [--items 200]

HERD is a raised herd: its chat model is served for `local-completions`, and its documents give the tasks: which of four
passages follows the beginning of a document (log-probabilities), and how a beginning goes on (greedy text). The same
weights as the release stage exported them run inside the harness (`hf`), in float32. Writes Markdown to standard
output; exits with 1 if a choice, a text or an accuracy differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.dataset

CONTEXT, FOLLOWING = 200, 60
"""Characters of a beginning and of what follows it: few, for the harness cuts long ones at other places for an API."""

TASKS = {
    "herd_choice": """\
output_type: multiple_choice
doc_to_choice: "{{choices}}"
doc_to_target: gold
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
""",
    "herd_text": """\
output_type: generate_until
doc_to_target: "{{following}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 24, do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
""",
}


def write_tasks(herd: Path, items: int, folder: Path) -> None:
    """The tasks and their data, drawn from the herd's documents."""
    files = sorted((herd / "documents").glob("kept-*.parquet"))
    texts = pyarrow.dataset.dataset(files).to_table(columns=["text"]).column(0).to_pylist()
    texts = [text for text in texts if len(text) > 2 * (CONTEXT + FOLLOWING)]
    chance = random.Random(1)
    chance.shuffle(texts)
    with (folder / "items.jsonl").open("w", encoding="utf-8") as file:
        for text in texts[:items]:
            others = [other[CONTEXT : CONTEXT + FOLLOWING] for other in chance.sample(texts, 3)]
            choices = [text[CONTEXT : CONTEXT + FOLLOWING], *others]
            order = chance.sample(range(4), 4)
            row = {
                "context": text[:CONTEXT].strip(),
                "following": choices[0],
                "choices": [" " + choices[place].strip() for place in order],
                "gold": order.index(0),
            }
            file.write(json.dumps(row) + "\n")
    for name, rest in TASKS.items():
        head = f"task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder / 'items.jsonl'}}}}}\n"
        (folder / f"{name}.yaml").write_text(f'{head}test_split: test\ndoc_to_text: "{{{{context}}}}"\n{rest}')


@contextmanager
def serving(herd: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "herdsman", "serve", f"herd={herd}", "--port", "0", "--tools", "none"]
    running = subprocess.Popen([*command, "--weights", "float32"], stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    said = running.stderr.readline()
    while "http://" not in said:
        if running.poll() is not None:
            raise SystemExit(said)
        said = running.stderr.readline()
    drain = subprocess.Popen(["cat"], stdin=running.stderr, stdout=sys.stderr)
    try:
        yield re.findall(r"http://\S+", said)[0]
    finally:
        running.terminate()
        running.wait(60)
        drain.wait(5)


def evaluate(harness: Path, folder: Path, name: str, model: str, arguments: str) -> dict[str, Any]:
    """Results and samples of the harness."""
    out = folder / name
    command = [harness, "-m", "lm_eval", "--model", model, "--model_args", arguments, "--tasks", ",".join(TASKS)]
    command += ["--include_path", folder, "--output_path", out, "--log_samples", "--batch_size", "8", "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment["HF_HOME"] = str(folder / "cache")
    subprocess.run([str(part) for part in command], check=True, env=environment, stdout=subprocess.DEVNULL)
    [results] = out.rglob("results_*.json")
    samples = {}
    for task in TASKS:
        [file] = out.rglob(f"samples_{task}_*.jsonl")
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        samples[task] = [row["filtered_resps"] for row in sorted(rows, key=lambda row: row["doc_id"])]
    return {"results": json.loads(results.read_text())["results"], "samples": samples}


def main(options: argparse.Namespace) -> int:
    herd, exported = options.herd.resolve(), options.herd.resolve() / "release" / "huggingface"
    length = json.loads((exported / "config.json").read_text())["max_position_embeddings"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tasks(herd, options.items, folder)
        found = {}
        with serving(herd) as address:
            # In process the harness begins texts with the begin-of-text token; through an API only if it is told to.
            api = f"model=herd,base_url={address}/v1/completions,num_concurrent=1,max_length={length}"
            theirs = f"tokenizer_backend=huggingface,tokenizer={exported}"
            for bos in (True, False):
                inside = f"pretrained={exported},dtype=float32,add_bos_token={bos}"
                outside = f"{api},{theirs},add_bos_token=True" if bos else f"{api},tokenizer_backend=remote"
                found[bos] = [
                    evaluate(options.harness, folder, f"hf-{bos}", "hf", inside),
                    evaluate(options.harness, folder, f"api-{bos}", "local-completions", outside),
                ]
    same = [report(*pair, bos) for bos, pair in found.items()]
    return 0 if all(same) else 1


def report(inside: dict[str, Any], outside: dict[str, Any], bos: bool) -> bool:
    """Writes both results; whether all of them are the same."""
    same = True
    tokenizer = (
        "with the begin-of-text token, Hugging Face's tokenizer" if bos else "without it, the server's tokenizer"
    )
    print(f"Texts {tokenizer}:\n\n| task | metric | in process | through the API |\n|---|---|---|---|")
    for task in TASKS:
        for metric, value in inside["results"][task].items():
            if isinstance(value, float) and "stderr" not in metric:
                other = outside["results"][task][metric]
                same &= other == value
                print(f"| {task} | {metric.split(',')[0]} | {value:.4f} | {other:.4f} |")
    gaps, greedy = [], 0
    for here, there in zip(inside["samples"]["herd_choice"], outside["samples"]["herd_choice"], strict=True):
        for (logprob, best), (other, other_best) in zip(map(_pair, here), map(_pair, there), strict=True):
            gaps.append(abs(logprob - other))
            greedy += best != other_best
    texts = list(zip(inside["samples"]["herd_text"], outside["samples"]["herd_text"], strict=True))
    differing = sum(here != there for here, there in texts)
    print(
        f"\nLog-probabilities of {len(gaps)} choices differ by {max(gaps):.2g} at most, the mark of greedy in "
        f"{greedy}; {differing} of {len(texts)} greedy texts differ.\n"
    )
    return same and not differing and not greedy


def _pair(entry: Any) -> tuple[float, bool]:
    """A log-probability and whether it was the greedy choice, which samples carry as texts."""
    logprob, greedy = entry
    return float(logprob), str(greedy) == "True"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("herd", type=Path)
    parser.add_argument("--harness", type=Path, required=True)
    parser.add_argument("--items", type=int, default=200)
    sys.exit(main(parser.parse_args()))
