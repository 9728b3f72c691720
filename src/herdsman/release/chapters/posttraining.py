"""Chapter of post-training: from samples to preferences, what each training gave, and answers to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from herdsman.release import figures
from herdsman.release.blocks import (
    Block,
    Chart,
    Chat,
    Chats,
    Dot,
    DotRow,
    Dots,
    Figure,
    Figures,
    Fold,
    Funnel,
    FunnelRow,
    Table,
    Turn,
    clip,
)
from herdsman.release.charts import Line, LineChart, draw
from herdsman.release.journey import Journey, Record

TITLE = "Post-training"
MODEL_TITLES = {"base": "base model", "seed": "first policy", "sft": "after SFT", "final": "after DPO"}
MODEL_COLOURS = {"base": "clay", "seed": "hay", "sft": "sky", "final": "grass"}
CURVES = {
    "seed": ("First policy: loss", "loss", "loss, nats a token"),
    "reward": ("Reward model: share of pairs in the right order", "accuracy", "share of pairs"),
    "sft": ("SFT: loss", "loss", "loss, nats a token"),
    "dpo": ("DPO: how far the better answer is ahead", "margin", "reward margin"),
}
SHOWN, ANSWER_CHARACTERS, PROMPT_CHARACTERS = 4, 400, 700


def lead(record: Record) -> str:
    everything = record.get("success.all.models", {})
    if "final" not in everything or "base" not in everything:
        return ""
    return (
        f"One round taught the model to answer: on prompts it has never seen, {_rate(everything['final'])} of its "
        f"answers pass every check, against {_rate(everything['base'])} for the base model with worked examples."
    )


def blocks(journey: Journey) -> list[Block]:
    record = journey["posttrain"]
    return [
        _figures(record),
        *_first_words(record),
        *_success(record),
        *_sampling(record),
        *_examples(record),
        *_curves(record),
        *_details(record),
    ]


def success_rows(record: Record, models: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Held-out prompts by source, `all` last: their number, and each model's rate with its interval."""
    everything = record.get("success.all")
    sources = [(entry["source"], entry) for entry in record.get("success.sources", [])]
    for name, entry in [*sources, *([("all", everything)] if everything else [])]:
        found = (entry["models"].get(model) for model in models)
        yield name, figures.count(entry["prompts"]), *(_with_interval(rate) for rate in found)


def exchange(record: Record) -> Chat | None:
    """One exchange to show: the first held-out prompt that the final model answers right, else what it says first."""
    for example in record.get("examples", []):
        answer = example["answers"].get("final", {})
        prompt = example["messages"][-1]["content"]
        if answer.get("passed") and len(prompt) <= 220:
            return Chat([Turn("user", prompt)], [("", clip(answer["text"], 260), "")])
    for row in record.get("chat", [])[:1]:
        return Chat([Turn("user", row["prompt"])], [("", clip(row["answers"].get("final", ""), 260), "")])
    return None


def _rate(entry: Mapping[str, Any]) -> str:
    return "–" if entry.get("rate") is None else figures.percent(entry["rate"], 0)


def _with_interval(entry: Mapping[str, Any] | None) -> str:
    if not entry or entry.get("rate") is None:
        return "–"
    return figures.interval(entry["rate"], entry["low"], entry["high"])


def _figures(record: Record) -> Figures:
    prompts = record.get("prompts", {})
    trained = sum(
        n for use, sources in prompts.items() if use != "held_out" for s in sources.values() for n in s.values()
    )
    reward = record.get("reward.accuracy")
    return Figures(
        [
            Figure(figures.count(trained), "prompts", "made from the documents, or checkable tasks"),
            Figure(
                figures.count(record.get("sampling.samples", 0)),
                "answers sampled",
                f"{figures.count(record.get('sampling.passed', 0))} pass every check",
            ),
            Figure(figures.count(record.get("curation.kept", 0)), "answers trained on", "by supervised fine-tuning"),
            Figure(
                "–" if reward is None else figures.percent(reward, 0),
                "of pairs in order",
                f"reward model, {figures.count(record.get('reward.pairs', 0))} held-out pairs",
            ),
        ]
    )


def _first_words(record: Record) -> list[Block]:
    rows = record.get("chat", [])
    if not rows:
        return []
    items = [Chat([Turn("user", row["prompt"])], _answers(row["answers"])) for row in rows]
    return [
        Chats("What people say first", items[:2]),
        *([Fold("More first words", [Chats("", items[2:])])] if items[2:] else []),
    ]


def _answers(answers: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Answers in the order of the models; with a verdict where one is known."""
    found = []
    for name, title in MODEL_TITLES.items():
        if name not in answers:
            continue
        answer = answers[name]
        text, verdict = (
            (answer, "") if isinstance(answer, str) else (answer["text"], "right" if answer["passed"] else "wrong")
        )
        found.append((title, clip(text, ANSWER_CHARACTERS), verdict))
    return found


def _success(record: Record) -> list[Block]:
    entries = [(entry["source"], entry) for entry in record.get("success.sources", [])]
    everything = record.get("success.all")
    if not everything:
        return []
    rows = [
        DotRow(
            name,
            [
                Dot(
                    entry["models"][model]["rate"], entry["models"][model]["low"], entry["models"][model]["high"], title
                )
                for model, title in MODEL_TITLES.items()
                if entry["models"].get(model, {}).get("rate") is not None
            ],
            note=f"{entry['prompts']:,} prompts",
        )
        for name, entry in [("all", everything), *entries]
    ]
    shots = record.get("base_shots", 0)
    note = (
        "Held-out prompts whose likeliest answer passes every check, with 95% Wilson intervals. "
        f"The base model cannot chat yet: it sees {shots} worked examples as plain text."
    )
    series = {title: MODEL_COLOURS[model] for model, title in MODEL_TITLES.items() if model in everything["models"]}
    return [Dots("Right answers, before and after", [row for row in rows if row.dots], series, note)]


def _sampling(record: Record) -> list[Block]:
    """From sampled answers to what is trained on."""
    samples, passed = record.get("sampling.samples", 0), record.get("sampling.passed", 0)
    preferences, rejection = record.get("preferences", {}), record.get("rejection", {})
    if not samples:
        return []
    found: list[Block] = [
        Funnel(
            "Answers sampled, and those that pass",
            "answers",
            [
                FunnelRow("answers sampled", samples, note=f"{record.get('sampling.samples_per_prompt')} to a prompt"),
                FunnelRow("pass every check", passed, samples - passed),
            ],
        )
    ]
    rows = [
        ("prompts whose answers were ranked", preferences.get("ranked")),
        ("their answers did not differ enough", preferences.get("unranked")),
        ("preferences trained on by the reward model", preferences.get("train")),
        ("preferences held out", preferences.get("held_out")),
        ("prompts answered by rejection sampling", rejection.get("answered")),
        ("no sample passed the checks", rejection.get("unanswered")),
        ("pairs trained on by DPO", record.get("dpo.pairs")),
        ("pairs too unclear for DPO", record.get("dpo.unclear")),
    ]
    table = Table("", ("", "count"), [(name, figures.count(number)) for name, number in rows if number is not None])
    found.append(Fold("What was made of them", [table]))
    faults = record.get("sampling.faults", [])
    if faults:
        body = [
            (fault["check"].partition("@")[0], clip(fault["evidence"], 160), figures.count(fault["samples"]))
            for fault in faults
        ]
        found.append(
            Fold(
                "What was wrong with the others",
                [Table("", ("check", "what it found", "samples"), body, text_columns=(0, 1))],
            )
        )
    return found


def _examples(record: Record) -> list[Block]:
    items = [
        Chat(
            [
                Turn("system", f"{example['source']}, {example['family'].replace('_', ' ')}"),
                *(Turn(m["role"], clip(m["content"], PROMPT_CHARACTERS)) for m in example["messages"]),
            ],
            _answers(example["answers"]),
        )
        for example in record.get("examples", [])
    ]
    if not items:
        return []
    note = "The first held-out prompt of a family, not picked for its answers. Programs judged them."
    return [
        Chats("Held-out prompts and their answers", items[:SHOWN], note),
        *([Fold("A prompt of every other family", [Chats("", items[SHOWN:])])] if items[SHOWN:] else []),
    ]


def _curves(record: Record) -> list[Block]:
    charts: list[Block] = []
    for name, (title, key, label) in CURVES.items():
        rows = [row for row in record.get(f"curves.{name}", []) if row.get(key) is not None]
        if len(rows) > 1:
            line = Line(key, [row["step"] for row in rows], [row[key] for row in rows])
            charts.append(Chart(draw(LineChart(title, "step", label, (line,))), title))
    return [Fold("The curves of the four trainings", charts)] if charts else []


def _details(record: Record) -> list[Block]:
    families = [
        (
            f"{entry['source']}, {entry['family'].replace('_', ' ')}",
            figures.count(entry["prompts"]),
            *(_with_interval(entry["models"].get(model)) for model in MODEL_TITLES),
        )
        for entry in record.get("success.families", [])
    ]
    dropped = [(reason, figures.count(number)) for reason, number in record.get("curation.dropped", {}).items()]
    found: list[Block] = []
    if families:
        found.append(Table("By family", ("family", "prompts", *MODEL_TITLES.values()), families))
    if dropped:
        found.append(Table("Dropped by curation", ("rule", "answers"), dropped))
    return [Fold("Every family, every rule", found)] if found else []
