"""A tiny herd to post-train; as a program, it runs the round and can be killed.

python -m tests.posttraining.herd WORKSPACE
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from herdsman.documents.store import KEPT, write_rows
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions
from herdsman.model.store import save_model
from herdsman.posttraining.options import PosttrainOptions
from herdsman.posttraining.round import posttrain
from herdsman.progress import SILENT
from herdsman.tokens.learn import train
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.tokens.vocabulary import write_ranks
from herdsman.workspace import Workspace
from tests.synthesis.conftest import rows

ROOT = Path(__file__).parents[2]
NEEDS = ("documents", "tokenizer", "pretrain")
OPTIONS = PosttrainOptions(
    prompts={
        "tasks": 36, "open_book": 6, "closed_book": 10, "conversation": 150, "harmful": 60, "borderline": 40,
        "held_out": 60, "difficulty": 1, "annotated_share": 0.6, "preference_share": 0.2, "more_turns": 0.2,
    },
    sampling={"samples_per_prompt": 3, "temperature": 1.0, "top_p": 0.95, "max_new_tokens": 56},
    seed_policy={"learning_rate": 1e-2, "epochs": 4, "batch_tokens": 768, "average": 1},
    reward={"learning_rate": 3e-3, "epochs": 2, "batch_tokens": 1024, "micro_batch_tokens": 512, "average": 2},
    sft={"learning_rate": 1e-2, "epochs": 3, "batch_tokens": 768, "average": 1},
    dpo={"learning_rate": 3e-4, "epochs": 1, "batch_tokens": 1024, "micro_batch_tokens": 512, "average": 2},
    sft_start="seed",
    checkpoint_seconds=0.05,
)  # fmt: skip


def learn_tokenizer(size: int = 600) -> Tokenizer:
    return Tokenizer(train([row["text"] for row in rows()], size))


def random_model(tokenizer: Tokenizer, seed: int = 0, context_length: int = 320) -> Llama:
    options = ModelOptions(
        layers=2,
        dim=32,
        heads=4,
        kv_heads=2,
        ffn_multiple_of=16,
        tied_embeddings=True,
        initial_std=0.1,
        context_length=context_length,
    )
    return Llama(options, tokenizer.vocab_size).initialise(seed)


def lay_herd(root: Path) -> Workspace:
    """A workspace with real documents, a vocabulary learned from them, and a random model, all finished."""
    workspace = Workspace(root)
    documents = [
        row | {"url": row["title"], "category": "general", "split": "held_out" if number % 5 == 0 else "train"}
        for number, row in enumerate(rows())
    ]
    for stage, needs in (("documents", ()), ("tokenizer", ("documents",)), ("pretrain", ("tokenizer",))):
        with workspace.stage(stage, stage, needs, seed=1, workers=1, progress=SILENT) as work:
            if stage == "documents":
                write_rows(work.out / "kept-00000.parquet", documents, KEPT)
            elif stage == "tokenizer":
                write_ranks(work.out / "tokenizer.model", train([row["text"] for row in rows()], 600))
            else:
                tokenizer = Tokenizer.load(workspace.folder("tokenizer"))
                save_model(random_model(tokenizer), work.out / "model")
    return workspace


def run_round(workspace: Workspace) -> str:
    """Runs the round to its end, or goes on with it, and returns its digest."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with workspace.stage("posttrain", "posttrain", NEEDS, seed=1, workers=1, progress=SILENT) as work:
            posttrain(OPTIONS, work, torch.device("cpu"))
    finally:
        torch.set_num_threads(threads)
    manifest = workspace.manifest("posttrain")
    assert manifest is not None
    return str(manifest["digest"])


def killed_when(workspace: Workspace, file: str) -> None:
    """Runs the round in a process of its own and kills it as soon as the file is there."""
    with subprocess.Popen([sys.executable, "-m", __name__, workspace.root], cwd=ROOT) as process:
        while not list(workspace.folder("posttrain").glob(file)):
            assert process.poll() is None, f"ended before {file} was written"
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert workspace.manifest("posttrain") is None


if __name__ == "__main__":
    run_round(Workspace(sys.argv[1]))
