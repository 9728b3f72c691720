"""A herd of small random models on real documents, to measure; as a program, it runs one stage of it and can be killed.

python -m tests.evaluation.herd WORKSPACE evaluate|safety
"""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from pydoc_data import topics
from typing import Any

import torch

from herdsman.documents.store import KEPT, write_rows
from herdsman.evaluation.evaluate import evaluate
from herdsman.evaluation.options import EvaluationOptions
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions
from herdsman.model.store import save_model
from herdsman.progress import SILENT
from herdsman.safety.assess import assess
from herdsman.safety.options import SafetyOptions
from herdsman.tokens.learn import train
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.tokens.vocabulary import write_ranks
from herdsman.workspace import Work, Workspace

EVALUATION = EvaluationOptions(held_out_bytes=24_000, examples=24, shots=1, max_new_tokens=12)
SAFETY = SafetyOptions(prompts=30, max_new_tokens=8)
NEEDS = {
    "evaluate": ("documents", "tokenizer", "pretrain", "posttrain"),
    "safety": ("documents", "tokenizer", "posttrain"),
}
ROOT = Path(__file__).parents[2]


def real_documents() -> list[dict[str, Any]]:
    """Python's own documentation, the beginning of a topic a document; every fourth is held out."""
    rows = []
    for number, (name, text) in enumerate(sorted(topics.topics.items())):
        url = f"https://docs.example/{name}"
        rows.append(
            {
                "id": hashlib.md5(url.encode()).hexdigest(),
                "url": url,
                "text": text[:4000],
                "category": "code" if number % 8 < 2 else "general",
                "split": "held_out" if number % 4 == 0 else "train",
            }
        )
    return rows


def lay_herd(root: Path, context_length: int = 128) -> Workspace:
    """A workspace with documents, tokenizer, two base models and a chat model, all finished."""
    workspace = Workspace(root)
    documents = real_documents()

    def stage(name: str, needs: tuple[str, ...] = ()) -> Any:
        return workspace.stage(name, name, needs, seed=1, workers=1, progress=SILENT)

    with stage("documents") as work:
        write_rows(work.out / "kept-00000.parquet", documents, KEPT)
    with stage("tokenizer", ("documents",)) as work:
        write_ranks(
            work.out / "tokenizer.model", train([row["text"] for row in documents if row["split"] == "train"], 600)
        )
    tokenizer = Tokenizer.load(workspace.folder("tokenizer"))
    with stage("pretrain", ("documents", "tokenizer")) as work:
        save_model(random_model(tokenizer, context_length, 1), work.out / "untrained")
        save_model(random_model(tokenizer, context_length, 2), work.out / "model")
    with stage("posttrain", ("pretrain",)) as work:
        save_model(random_model(tokenizer, context_length, 3), work.out / "model")
    return workspace


def random_model(tokenizer: Tokenizer, context_length: int = 128, seed: int = 0) -> Llama:
    """Weights larger than at the start of a training, so that its choices are clear of rounding."""
    options = ModelOptions(layers=2, dim=32, heads=4, kv_heads=2, ffn_multiple_of=16, context_length=context_length)
    model = Llama(options, tokenizer.vocab_size).initialise(seed).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    return model


def run_stage(workspace: Workspace, stage: str) -> str:
    """Runs the stage to its end, or goes on with it, and returns its digest."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with workspace.stage(stage, stage, NEEDS[stage], seed=1, workers=1, progress=SILENT) as work:
            _run(stage, work)
    finally:
        torch.set_num_threads(threads)
    manifest = workspace.manifest(stage)
    assert manifest is not None
    return str(manifest["digest"])


def killed_when(workspace: Workspace, stage: str, file: str) -> None:
    """Runs the stage in a process of its own and kills it as soon as the file is there."""
    with subprocess.Popen([sys.executable, "-m", __name__, workspace.root, stage], cwd=ROOT) as process:
        while not (workspace.folder(stage) / file).exists():
            assert process.poll() is None, f"ended before {file} was written"
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert workspace.manifest(stage) is None


def _run(stage: str, work: Work) -> None:
    if stage == "evaluate":
        evaluate(EVALUATION, work)
    else:
        assess(SAFETY, work)


if __name__ == "__main__":
    run_stage(Workspace(sys.argv[1]), sys.argv[2])
