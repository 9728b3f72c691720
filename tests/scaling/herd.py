"""A small workspace with finished data stages: Python's documentation as general text, its own library as code."""

from __future__ import annotations

import hashlib
import inspect
import json
from functools import partial
from pathlib import Path
from pydoc_data import topics
from typing import Any

from herdsman.documents.mix import make_mix
from herdsman.documents.mix_options import MixOptions
from herdsman.documents.store import KEPT, write_rows
from herdsman.files import write_json
from herdsman.progress import SILENT
from herdsman.recipe import Recipe
from herdsman.scaling.runs import Train
from herdsman.scaling.sweep import INPUTS, Sweep
from herdsman.stages import train_model
from herdsman.tokens.learn import train
from herdsman.tokens.options import TokensOptions
from herdsman.tokens.pack import pack
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.tokens.vocabulary import write_ranks
from herdsman.workspace import Workspace

MODULES = ("argparse", "ast", "calendar", "configparser", "csv", "difflib", "dis", "doctest", "enum")
LENGTH = 64


def documents() -> list[dict[str, Any]]:
    """Every fifth is held out."""
    texts = [("general", text[at : at + 3000]) for _, text in sorted(topics.topics.items()) for at in (0, 3000)]
    for name in MODULES:
        source = inspect.getsource(__import__(name))
        texts += [("code", source[at : at + 3000]) for at in range(0, min(len(source), 60_000), 3000)]
    rows = []
    for number, (category, text) in enumerate((category, text) for category, text in texts if len(text) > 200):
        id = hashlib.md5(f"{number} {category}".encode()).hexdigest()
        kind = {"category": category, "topic": "", "tier": "rest", "source": "python", "language": "en"}
        rows.append({"id": id, "text": text, "split": "held_out" if number % 5 == 0 else "train", **kind})
    return rows


def lay_herd(root: Path, mix: MixOptions) -> dict[str, Path]:
    """Documents, tokenizer and tokens, all finished; their folders."""
    workspace, rows = Workspace(root), documents()
    training = [row for row in rows if row["split"] == "train"]

    def stage(name: str, *needs: str) -> Any:
        return workspace.stage(name, name, needs, seed=1, workers=1, progress=SILENT)

    with stage("documents") as work:
        write_rows(work.out / "kept-00000.parquet", rows, KEPT)
        sizes: dict[Any, list[int]] = {}
        for row in training:
            sizes.setdefault((row["category"], row["topic"], row["tier"]), []).append(len(row["text"].encode()))
        write_json(work.out / "mix.json", make_mix({key: (len(s), sum(s)) for key, s in sizes.items()}, mix))
    with stage("tokenizer", "documents") as work:
        write_ranks(work.out / "tokenizer.model", train([row["text"] for row in training], 600))
        work.counts["rows"] = Tokenizer.load(work.out).vocab_size
    with stage("tokens", "documents", "tokenizer") as work:
        pack(TokensOptions(block_tokens=LENGTH), work)
    return {name: workspace.folder(name) for name in INPUTS}


def recipe(**sections: Any) -> Recipe:
    """Of a model of 50,000 parameters and 70,000 tokens, which learns in seconds; sections as in a recipe file."""
    phase = {"batch_tokens": 512, "sequence_length": LENGTH}
    table: dict[str, Any] = {
        "name": "mite",
        "pages": {"sources": ["sample"]},
        "tokenizer": {"vocab_size": 600},
        "machine": {"device": "cpu", "threads": 1},
        "model": {"layers": 2, "dim": 32, "heads": 4, "kv_heads": 2, "ffn_multiple_of": 16, "context_length": 128,
                  "tied_embeddings": True, "initial_std": 0.03},
        "pretrain": {
            "peak_learning_rate": 5e-3, "final_learning_rate": 5e-4, "warmup_steps": 5,
            "optimizer": {"name": "muon", "embedding_rate": 6.0}, "validations": 2,
            "validation_tokens": 4096, "samples": 0,
            "phases": [
                {"name": "main", "tokens": 60_000, **phase},
                {"name": "anneal", "tokens": 10_000, "learning_rate": "linear_to_zero", "mix": "anneal", **phase},
            ],
        },
        "evaluate": {"held_out_bytes": 60_000, "benchmarks": ["openbookqa"], "examples": 12},
    }  # fmt: skip
    return Recipe(**json.loads(json.dumps({**table, **sections})))


def sweep(root: Path, recipe: Recipe) -> Sweep:
    return Sweep(root, recipe.scaling, recipe.model, recipe.pretrain, recipe.seed)


def trainer(recipe: Recipe) -> Train:
    return partial(train_model, recipe)
