"""The model card, as sections of blocks: the report shows them as a chapter, `markdown` writes them as README.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from herdsman.release import figures
from herdsman.release.blocks import Block, Code, Items, Prose, Section, Table
from herdsman.release.chapters.gathering import licence
from herdsman.release.chapters.judging import BENCHMARK_COLUMNS, MODEL_TITLES, benchmark_rows, bits
from herdsman.release.chapters.posttraining import success_rows
from herdsman.release.chapters.refining import masked_kinds
from herdsman.release.chapters.safety import RATES, guard_rates
from herdsman.release.cost import assumption, costs, total
from herdsman.release.journey import Journey

MOST_SOURCES, MOST_LANGUAGES = 20, 8
USE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("huggingface")  # the folder this card lies in
model = AutoModelForCausalLM.from_pretrained("huggingface")
messages = [{"role": "user", "content": "Hello!"}]
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**prompt, max_new_tokens=100)
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1]:], skip_special_tokens=True))"""


def model_card(journey: Journey, measured: bool = False) -> list[Section]:
    """The card's sections, of what the workspace holds so far.

    Args:
        measured: with measured time, energy and carbon, which differ from run to run.
    """
    sections = [
        Section("The model", _model(journey)),
        Section("Using it", [Code(USE)]),
        Section("Intended use", _intended_use()),
        Section("Limits", _limits(journey)),
        Section("Data", _data(journey)),
        Section("Training", _training(journey)),
        Section("Evaluation", _evaluation(journey)),
        Section("Safety", _safety(journey)),
        Section("Computing and energy", _computing(journey, measured)),
    ]
    return [section for section in sections if section.blocks]


def languages(journey: Journey) -> list[str]:
    """Codes of the documents' languages, the most written first."""
    return [row["language"] for row in journey["documents"].get("languages", [])][:MOST_LANGUAGES]


def _model(journey: Journey) -> list[Block]:
    record = journey["pretrain"]
    if not record.finished:
        return []
    model = record.get("model", {})
    heads = f"{model.get('heads')} ({model.get('kv_heads')} for keys and values)"
    rows = [
        ("parameters", f"{record.get('parameters', 0):,}"),
        ("architecture", "Llama 3: dense pre-norm decoder, grouped-query attention, SwiGLU, rotary positions"),
        ("layers, width, heads", f"{model.get('layers')}, {model.get('dim')}, {heads}"),
        ("context", f"{model.get('context_length', 0):,} tokens"),
        ("vocabulary", f"{record.get('vocab_size', 0):,} tokens, 256 of them special"),
        ("training tokens", f"{record.get('tokens', 0):,}"),
        ("languages", ", ".join(languages(journey)) or "not known"),
        ("licence of the weights", journey.options.licence),
    ]
    lead = Prose(
        f"{journey.name} was raised by Herdsman from {figures.count(journey['pages'].get('pages', 0))} web pages: a "
        "base model trained on the documents found in them, then taught to answer in a chat."
    )
    return [lead, Table("", ("", "value"), rows, text_columns=(0, 1))]


def _intended_use() -> list[Block]:
    return [
        Prose("For research, teaching and tests, and as a start for fine-tuning on a field of one's own."),
        Prose(
            "Not for advice on which health, money, rights or safety depend, not for decisions about people, and not "
            "in front of the public without a guard of its own, tested for that use."
        ),
    ]


def _limits(journey: Journey) -> list[Block]:
    items = ["It says what is likely to follow, not what is true; it invents names, numbers and sources."]
    known, context = languages(journey), journey["pretrain"].get("model.context_length")
    if known:
        items.append(f"It knows what its documents hold, and those are mostly in one language ({known[0]}).")
    if context:
        items.append(f"It sees {context:,} tokens at once and remembers nothing beyond them.")
    scores = [
        score
        for entry in journey["evaluate"].get("benchmarks", [])
        if entry["chance"]
        for name, score in entry["models"].items()
        if name == "final" and score["low"] > entry["chance"]
    ]
    asked = [
        entry for entry in journey["evaluate"].get("benchmarks", []) if entry["chance"] and "final" in entry["models"]
    ]
    if asked:
        items.append(
            f"On {len(scores)} of {len(asked)} multiple-choice measures its score's 95% interval lies above guessing."
        )
    if journey["posttrain"].finished:
        items.append("It learned to answer from made tasks whose answers programs check; no person judged its answers.")
    if journey["safety"].finished:
        items.append(
            "Its refusals were counted by rules on one English test set; the guard judges words, not intentions."
        )
    return [Items(items)]


def _data(journey: Journey) -> list[Block]:
    pages, documents = journey["pages"], journey["documents"]
    found: list[Block] = []
    sources = pages.get("sources", [])
    if sources:
        rows = [
            (row["source"], f"{row['pages']:,}", figures.size(row["bytes"]), licence(row))
            for row in sources[:MOST_SOURCES]
        ]
        more = len(sources) - len(rows)
        found.append(
            Table(
                "",
                ("source", "pages", "HTML", "licence"),
                rows,
                f"And {more:,} smaller sources." if more > 0 else "",
                (0, 3),
            )
        )
    funnel = documents.get("funnel", [])
    if funnel:
        found.append(
            Prose(
                f"Of {funnel[0]['documents']:,} pages {funnel[-1]['documents']:,} documents were kept, with "
                f"{figures.short_count(funnel[-1]['characters'])} characters, after extraction, filters and removal of "
                f"copies; {documents.get('held_out.documents', 0):,} of them were held out to measure with and never "
                "trained on."
            )
        )
    masked = masked_kinds(documents)
    if masked:
        found.append(Prose(f"Private data masked in the documents: {', '.join(masked)}."))
    return found


def _training(journey: Journey) -> list[Block]:
    pretrain, posttrain = journey["pretrain"], journey["posttrain"]
    found: list[Block] = []
    if pretrain.finished:
        phases = ", then ".join(
            f"{phase['steps']:,} steps of {phase['batch_tokens']:,} tokens ({phase['name']})"
            for phase in pretrain.get("phases", [])
        )
        averaged = len(pretrain.get("averaged_steps", []))
        loss = pretrain.get("validation_loss.average")
        tail = f" The weights are the average of the last {averaged} checkpoints." if averaged > 1 else ""
        tail += f" Held-out loss: {loss:.3f} nats a token." if loss is not None else ""
        optimizer = {"adamw": "AdamW", "muon": "Muon"}[pretrain.get("optimizer", "adamw")]
        found.append(Prose(f"Pretraining: {phases}, with {optimizer} in {pretrain.get('precision', 'float32')}.{tail}"))
    if posttrain.finished:
        found.append(
            Prose(
                "Post-training: one round of supervised fine-tuning and direct preference optimisation, on "
                "references and on answers drawn from the model, kept where programs found them right and a reward "
                "model ranked them first."
            )
        )
    return found


def _evaluation(journey: Journey) -> list[Block]:
    record = journey["evaluate"]
    found: list[Block] = []
    measured = bits(record)
    if measured:
        rows: list[Sequence[object]] = [
            (MODEL_TITLES.get(name, name), f"{entry['value']:.3f}", f"{entry['low']:.3f} to {entry['high']:.3f}")
            for name, entry in measured.items()
        ]
        found.append(Table("", ("held-out documents", "bits a byte", "95% interval"), rows))
    if record.get("benchmarks", []):
        rows = [row for row in benchmark_rows(record) if row[2] in (MODEL_TITLES["base"], MODEL_TITLES["final"])]
        found.append(
            Table(
                "",
                BENCHMARK_COLUMNS,
                rows,
                "Intervals are Wilson's; the paper's ± is 1.96 standard errors.",
                (0, 1, 2, 3),
            )
        )
    rows = list(success_rows(journey["posttrain"], ("base", "final")))
    if rows:
        note = "Share of prompts whose likeliest answer passes every check, with 95% Wilson intervals."
        found.append(Table("", ("made prompts, held out", "prompts", "base model", "chat model"), rows, note))
    return found


def _safety(journey: Journey) -> list[Block]:
    record = journey["safety"]
    rates: dict[str, Any] = record.get("system.rates", {})

    def shown(side: str, name: str) -> str:
        rate = rates.get(f"{side}.{name}")
        return figures.interval(rate["rate"], rate["low"], rate["high"]) if rate and rate["rate"] is not None else "–"

    rows = [(title, shown("model", name), shown("model_with_guard", name)) for name, title in RATES.items()]
    guard = [(title, figures.interval(rate["rate"], rate["low"], rate["high"])) for title, rate in guard_rates(record)]
    found: list[Block] = []
    if rates:
        found.append(Table("", ("XSTest (95% interval)", "model alone", "model and guard"), rows))
    if guard:
        found.append(Table("", ("the guard, shown", "blocks (95% interval)"), guard))
    return found


def _computing(journey: Journey, measured: bool) -> list[Block]:
    record, options = journey["pretrain"], journey.options
    found: list[Block] = []
    if record.finished:
        flops = record.get("flops", {})
        found.append(
            Prose(
                f"Pretraining took {figures.power_of_ten(flops.get('six_n_d', 0))} floating-point operations by 6ND "
                f"({figures.power_of_ten(flops.get('with_attention', 0))} counted with attention)."
            )
        )
    if not measured:
        return [*found, Prose("Time, energy and carbon differ from run to run; the run's report states them.")]
    whole = total(costs(journey))
    rows = [
        ("wall time", figures.duration(whole.wall_seconds)),
        ("CPU-hours", f"{whole.cpu_seconds / 3600:.3g}"),
        ("GPU-hours", f"{whole.gpu_seconds / 3600:.3g}"),
        ("peak memory of the main process", figures.size(whole.peak_memory_bytes)),
        ("energy", figures.watt_hours(whole.energy_watt_hours)),
        ("carbon", f"{figures.grams(whole.carbon_grams)} of CO₂ equivalent"),
    ]
    return [*found, Table("", ("all stages", "value"), rows, assumption(options))]
