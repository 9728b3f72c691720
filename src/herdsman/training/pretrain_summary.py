"""What the report shows of pretraining: curves, samples, phases, and what each stream gave."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from herdsman.files import read_json, read_jsonl
from herdsman.model.count import training_flops
from herdsman.model.options import ModelOptions
from herdsman.training.metrics import point_of, typical_rates
from herdsman.training.options import PretrainOptions
from herdsman.training.peaks import Peak
from herdsman.training.schedule import stream_shares
from herdsman.training.token_course import TokenCourse
from herdsman.workspace import Work

SHOWN_POINTS = 400
SHOWN = ("loss", "share.", "learning_rate", "gradient_norm")  # what their names begin with; no times and no rates


def summarise(
    work: Work,
    options: PretrainOptions,
    model: ModelOptions,
    vocab_size: int,
    parameters: int,
    course: TokenCourse,
    losses: dict[str, float],
    precision: str,
    log: Path,
    devices: int,
    peak: Peak,
) -> None:
    """Fills the manifest's figures and writes `summary.json`."""
    schedule, rows = course.schedule, read_jsonl(log)
    every = max(1, len(rows) // SHOWN_POINTS)
    spans = list(zip(schedule.starts, schedule.starts[1:], options.phases, strict=False))
    flops = {"six_n_d": training_flops(model, vocab_size, schedule.tokens)}
    flops["with_attention"] = sum(
        training_flops(model, vocab_size, (end - start) * phase.batch_tokens, phase.sequence_length)
        for start, end, phase in spans
    )
    work.counts |= {"steps": schedule.steps, "tokens": schedule.tokens, "parameters": parameters}
    work.metrics["speed"] = {"devices": devices, "peak": asdict(peak), "phases": typical_rates(rows)}
    work.metrics |= {"validation_loss": losses, "flops": flops, "precision": precision}
    work.summarise(
        {
            "parameters": parameters,
            "vocab_size": vocab_size,
            "model": model.model_dump() | {"ffn_dim": model.ffn_dim, "head_width": model.head_width},
            "tokens": schedule.tokens,
            "steps": schedule.steps,
            "flops": flops,
            "precision": precision,
            "optimizer": options.optimizer.name,
            "validation_loss": losses,
            "averaged_steps": [] if options.average == "none" else schedule.averaged_steps(),
            "phases": [
                phase.model_dump()
                | {"steps": end - start, "first_step": start, "mix_shares": stream_shares(phase, course.mixes)}
                for start, end, phase in spans
            ],
            "gates": course.gates.state(),
            "left_out": course.left_out.state()["windows"],
            "curve": [
                {"step": part[0]["step"], "tokens": part[0]["tokens"]}
                | {name: value for name, value in point_of(part).items() if name.startswith(SHOWN)}
                for part in (rows[i : i + every] for i in range(0, len(rows), every))
            ],
            "validation": _told(work.scratch / "validation"),
            "samples": _told(work.scratch / "samples"),
            "streams": course.streams.sizes(),
            "taken": {name: vars(taken) for name, taken in course.order.ledger().items()},
        }
    )


def _told(folder: Path) -> list[dict[str, Any]]:
    return [read_json(path) for path in sorted(folder.glob("*.json"))]
