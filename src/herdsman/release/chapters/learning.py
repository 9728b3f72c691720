"""Chapter of pretraining: the model, its curves, and its own words as it learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from herdsman.release import figures
from herdsman.release.blocks import Bar, Bars, Block, Chart, Example, Figure, Figures, Fold, Table, Texts, clip
from herdsman.release.charts import Line, LineChart, draw, smooth
from herdsman.release.journey import Journey, Record

TITLE = "Pretraining"
COLOURS = ("grass", "sky", "clay", "hay", "heather")


def lead(record: Record) -> str:
    tokens, parameters = record.get("tokens", 0), record.get("parameters", 0)
    losses = record.get("validation_loss", {})
    sentence = (
        f"{figures.count(parameters)} parameters read {figures.short_count(tokens)} tokens"
        f" in {figures.count(record.get('steps', 0))} steps"
    )
    if "untrained" in losses and "average" in losses:
        sentence += f"; the held-out loss fell from {losses['untrained']:.2f} to {losses['average']:.2f} nats a token"
    return sentence + "."


def blocks(journey: Journey) -> list[Block]:
    record = journey["pretrain"]
    found: list[Block] = [_figures(record)]
    curve = record.get("curve", [])
    if len(curve) > 1:
        found += [Chart(draw(_loss_chart(record)), _loss_caption(record)), *_stream_losses(record)]
        found += [Chart(draw(_rate_chart(record))), Chart(draw(_norm_chart(record)))]
    samples = record.get("samples", [])
    if samples:
        found += _samples(samples, record.get("steps", 0))
    found.append(Fold("Dimensions and schedule", [_dimensions(record), _phases(record), *_mixes(record)]))
    found += [*_averages(record), *_gates(record), *_taken(record)]
    found += _speed(record.manifest.get("metrics", {}).get("speed", {}))
    return found


def _figures(record: Record) -> Figures:
    flops = record.get("flops", {})
    items = [
        Figure(figures.count(record.get("parameters", 0)), "parameters", "exact, embeddings included"),
        Figure(figures.short_count(record.get("tokens", 0)), "training tokens", f"{record.get('tokens', 0):,} in all"),
        Figure(
            figures.power_of_ten(flops.get("six_n_d", 0)),
            "FLOPs by 6ND",
            f"{figures.power_of_ten(flops.get('with_attention', 0))} with attention",
        ),
        Figure(str(record.get("precision", "")), "precision", "of matrix products"),
    ]
    return Figures(items)


def _loss_chart(record: Record) -> LineChart:
    curve = record.get("curve", [])
    tokens, losses = [row["tokens"] for row in curve], [row["loss"] for row in curve]
    lines = [Line("each step", tokens, losses, "grass", "faint"), Line("training loss", tokens, smooth(losses, 0.05))]
    validation = record.get("validation", [])
    if validation:
        x, y = [row["tokens"] for row in validation], [row["loss"] for row in validation]
        lines.append(Line("held-out loss", x, y, "clay", "dots"))
    return LineChart(
        "Training and held-out loss in nats a token, by tokens read",
        "tokens read",
        "loss, nats a token",
        tuple(lines),
        spans=_spans(record),
    )


def _rate_chart(record: Record) -> LineChart:
    curve = record.get("curve", [])
    tokens = [row["tokens"] for row in curve]
    rate = Line("learning rate", tokens, [row["learning_rate"] for row in curve], "sky")
    return LineChart(
        "Learning rate by tokens read", "tokens read", "learning rate", (rate,), _spans(record), from_zero=True
    )


def _norm_chart(record: Record) -> LineChart:
    curve = record.get("curve", [])
    tokens, norms = [row["tokens"] for row in curve], [row["gradient_norm"] for row in curve]
    lines = (Line("each step", tokens, norms, "heather", "faint"), Line("mean", tokens, smooth(norms, 0.05), "heather"))
    return LineChart(
        "Gradient norm, before clipping, by tokens read", "tokens read", "gradient norm", lines, _spans(record)
    )


def _stream_losses(record: Record) -> list[Block]:
    """The losses of the streams that the most tokens were read of, as many as there are colours."""
    curve = record.get("curve", [])
    read: dict[str, float] = {}
    for row in curve:
        for name, share in row.items():
            if name.startswith("share."):
                read[name.removeprefix("share.")] = read.get(name.removeprefix("share."), 0.0) + share
    streams = sorted(read, key=lambda stream: (-read[stream], stream))
    lines = []
    for stream, colour in zip(streams, COLOURS, strict=False):
        rows = [row for row in curve if f"loss.{stream}" in row]
        losses = smooth([row[f"loss.{stream}"] for row in rows], 0.05)
        lines.append(Line(stream, [row["tokens"] for row in rows], losses, colour))
    if not lines:
        return []
    title = "Training loss by stream in nats a token, by tokens read"
    chart = LineChart(title, "tokens read", "loss, nats a token", tuple(lines), _spans(record))
    left = len(streams) - len(lines)
    return [
        Chart(
            draw(chart), f"The {len(lines)} streams of which most was read; {left} more are not shown." if left else ""
        )
    ]


def _speed(speed: Mapping[str, Any]) -> list[Block]:
    """What a step typically reached, by phase; nothing where that was not measured."""
    phases, peak = speed.get("phases", []), speed.get("peak", {})
    if not phases or not peak:
        return []
    shares = ("mfu_whole", "mfu_causal", "hfu_whole", "hfu_causal", "data_share")
    rows = [
        (
            phase.get("phase", ""),
            figures.duration(phase.get("seconds", 0)),
            figures.count(phase.get("tokens_per_second", 0)),
            *(figures.percent(phase[name]) if name in phase else "" for name in shares),
            figures.size(phase.get("memory_allocated_bytes") or phase.get("memory_resident_bytes", 0)),
        )
        for phase in phases
    ]
    utilisation = ("MFU, whole", "MFU, causal", "HFU, whole", "HFU, causal")
    columns = ("phase", "a step", "tokens a second", *utilisation, "waiting for data", "memory")
    note = (
        f"Medians over steps. Devices: {speed.get('devices', 1)}, of at most "
        f"{figures.power_of_ten(peak.get('flops_per_second', 0))} operations a second ({peak.get('source', '')}). MFU "
        "counts the operations that the mathematics asks for, HFU those really done, with attention over the whole "
        "sequence or over the half of it that is causal. Memory is the highest of the first device, or of its process."
    )
    return [Fold("Speed", [Table("What a step reached", columns, rows, note)])]


def _spans(record: Record) -> tuple[tuple[float, float, str], ...]:
    """Annealing phases, as stretches of tokens read."""
    spans, before = [], 0
    for phase in record.get("phases", []):
        after = before + phase["steps"] * phase["batch_tokens"]
        if phase["learning_rate"] == "linear_to_zero":
            spans.append((before, after, phase["name"]))
        before = after
    return tuple(spans)


def _loss_caption(record: Record) -> str:
    losses, averaged = record.get("validation_loss", {}), record.get("averaged_steps", [])
    if not averaged or "last_checkpoint" not in losses:
        return ""
    return (
        f"The base model is the average of {len(averaged)} checkpoints of the annealing phase: "
        f"held-out loss {losses['average']:.4f}, against {losses['last_checkpoint']:.4f} for the last of them."
    )


def _samples(samples: list[dict[str, Any]], steps: int) -> list[Block]:
    """One prompt's continuations in time; the other prompts' to open."""
    prompts = list(dict.fromkeys(pair["prompt"] for entry in samples for pair in entry["samples"]))
    timelines = {
        prompt: [
            Example(_moment(entry, steps), clip(pair["prompt"] + pair["text"], 320))
            for entry in samples
            for pair in entry["samples"]
            if pair["prompt"] == prompt
        ]
        for prompt in prompts
    }
    first, *others = [Texts(f"“{prompt.strip()} …”", items, timeline=True) for prompt, items in timelines.items()]
    found: list[Block] = [Texts("In its own words, as it learns", first.items, timeline=True)]
    return found + ([Fold("More beginnings that it continued", others)] if others else [])


def _moment(entry: dict[str, Any], steps: int) -> str:
    return f"after {figures.short_count(entry['tokens'])} tokens, step {entry['step'] + 1:,} of {steps:,}"


def _dimensions(record: Record) -> Table:
    model = record.get("model", {})
    scaling = model.get("rope_scaling")
    rows = [
        ("layers", model.get("layers")),
        ("model dimension", figures.count(model.get("dim", 0))),
        ("feed-forward dimension", figures.count(model.get("ffn_dim", 0))),
        ("query heads / key-value heads", f"{model.get('heads')} / {model.get('kv_heads')}"),
        ("head dimension", model.get("head_width")),
        ("vocabulary, with special tokens", figures.count(record.get("vocab_size", 0))),
        ("context, tokens", figures.count(model.get("context_length", 0))),
        ("rotary base", figures.count(model.get("rope_theta", 0))),
        ("rotary scaling", f"factor {scaling['factor']:g}" if scaling else "none"),
        ("tied embeddings", "yes" if model.get("tied_embeddings") else "no"),
    ]
    return Table(
        "The decoder",
        ("dimension", "value"),
        rows,
        "Dense pre-norm Llama 3 decoder: grouped-query attention, "
        "rotary positions, SwiGLU, RMSNorm, no biases, attention that stops at document borders.",
    )


def _phases(record: Record) -> Table:
    rows = [
        (
            phase["name"],
            figures.count(phase["steps"]),
            figures.count(phase["steps"] * phase["batch_tokens"]),
            figures.count(phase["batch_tokens"]),
            figures.count(phase["sequence_length"]),
            phase["learning_rate"].replace("_", " "),
            phase.get("average_checkpoints", 0),
        )
        for phase in record.get("phases", [])
    ]
    columns = ("phase", "steps", "tokens", "batch tokens", "sequence", "learning rate", "averaged")
    return Table("The schedule", columns, rows)


def _averages(record: Record) -> list[Block]:
    """What each candidate for the base model loses on held-out text."""
    names = {
        "last_checkpoint": "last weights",
        "uniform_average": "uniform average",
        "exponential_average": "exponential average",
    }
    losses = record.get("validation_loss", {})
    rows = [(title, f"{losses[name]:.4f}") for name, title in names.items() if name in losses]
    if len(rows) < 2 or not record.get("averaged_steps"):
        return []
    note = f"Over {len(record.get('averaged_steps', []))} checkpoints; nats a token of held-out text."
    return [Fold("Averages of checkpoints", [Table("Candidates for the base model", ("weights", "loss"), rows, note)])]


def _gates(record: Record) -> list[Block]:
    """What was measured before a phase of longer sequences was left."""
    phases = record.get("phases", [])
    rows = [
        (
            phases[int(number)]["name"],
            figures.short_count(found["tokens"]),
            f"{found['short_context_loss']:.4f}",
            f"{gate['short_context_before']:.4f}",
            figures.percent(found["needle"]),
            "passed" if gate["passed"] and found is gate["measurements"][-1] else "not yet",
        )
        for number, gate in record.get("gates", {}).items()
        for found in gate["measurements"]
    ]
    if not rows:
        return []
    columns = ("phase", "tokens read", "loss on short text", "before the phase", "needles found", "gate")
    return [Fold("Gates of longer contexts", [Table("What was measured", columns, rows, text_columns=(0, 5))])]


def _taken(record: Record) -> list[Block]:
    """What each stream gave."""
    rows = [
        (stream, figures.count(taken["tokens"]), f"{taken['epochs']:.2f}", len(taken["sources"]))
        for stream, taken in sorted(record.get("taken", {}).items(), key=lambda item: -item[1]["tokens"])
    ]
    columns = ("stream", "tokens", "passes over it", "sources")
    return [Fold("Tokens taken of each stream", [Table("The ledger", columns, rows)])] if rows else []


def _mixes(record: Record) -> list[Block]:
    found: list[Block] = []
    for phase in record.get("phases", []):
        shares = sorted(phase.get("mix_shares", {}).items(), key=lambda item: -item[1])
        items = [Bar(stream, share, figures.percent(share), colour="sky") for stream, share in shares]
        found.append(Bars(f"What the phase “{phase['name']}” read", items, note="Shares of the tokens, by stream."))
    return found
