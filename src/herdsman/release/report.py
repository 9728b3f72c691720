"""The report: one self-contained HTML page of everything a workspace holds so far. Needs no torch and no network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from herdsman import __version__
from herdsman.files import write_text
from herdsman.release import figures
from herdsman.release.blocks import Block, Chapter, Chat, Figure, Turn, clip
from herdsman.release.card import model_card
from herdsman.release.chapters import (
    ending,
    foretelling,
    gathering,
    judging,
    learning,
    planning,
    posttraining,
    refining,
    safety,
    scaling,
    search,
    tokens,
)
from herdsman.release.cost import costs, stage_cost, total
from herdsman.release.journey import Journey, Record
from herdsman.release.landscape import landscape
from herdsman.release.plan_text import read_plan


def write_report(workspace_root: Path, out: Path) -> None:
    """Writes the page; stages that have not been run say so, so it can be written at any moment of a run.

    Args:
        workspace_root: the herd's folder.
        out: file to write, whole or not at all.
    """
    write_text(out, render_report(Journey.read(workspace_root)))


def render_report(journey: Journey) -> str:
    chapters = _chapters(journey)
    return (
        environment()
        .get_template("report.html")
        .render(
            name=journey.name,
            lead=_lead(journey),
            exchange=_exchange(journey),
            path=_path(journey),
            chapters=chapters,
            landscape=landscape(
                [row["loss"] for row in journey["pretrain"].get("curve", [])],
                [record.stage for record in journey.finished],
            ),
            version=__version__,
        )
    )


def environment() -> Environment:
    """Jinja with escaping on for everything: what pages and models say is text, whatever it looks like."""
    return Environment(
        loader=PackageLoader("herdsman.release"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


def _chapters(journey: Journey) -> list[Chapter]:
    def of(
        stage: str, title: str, lead: Callable[[Record], str], blocks: Callable[[Journey], Sequence[Block]]
    ) -> Chapter:
        record = journey[stage]
        if not record.finished:
            return Chapter(stage, title, "")
        return Chapter(stage, title, lead(record), blocks(journey), _took(journey, record))

    chapters = [
        of("pages", gathering.TITLE, gathering.lead, gathering.blocks),
        of("documents", refining.TITLE, refining.lead, refining.blocks),
        of("tokenizer", tokens.TOKENIZER_TITLE, tokens.tokenizer_lead, tokens.tokenizer_blocks),
        of("tokens", tokens.TOKENS_TITLE, tokens.tokens_lead, tokens.tokens_blocks),
        of("search", search.TITLE, search.lead, search.blocks),
        of("pretrain", learning.TITLE, learning.lead, learning.blocks),
        of("posttrain", posttraining.TITLE, posttraining.lead, posttraining.blocks),
        of("evaluate", judging.TITLE, judging.lead, judging.blocks),
        of("safety", safety.TITLE, safety.lead, safety.blocks),
        of("release", ending.RELEASE_TITLE, ending.release_lead, ending.release_blocks),
    ]
    at = [chapter.stage for chapter in chapters].index("pretrain")
    swept = scaling.chapter(journey.root)
    chapters[at:at] = [*([swept] if swept else []), *foretelling.chapters(journey.root)]
    if plan := read_plan(journey.root):
        after = next(number for number, chapter in enumerate(chapters) if chapter.stage == "pretrain")
        chapter = Chapter("plan", planning.TITLE, planning.lead(journey), planning.blocks(journey, plan))
        chapters.insert(after + 1, chapter)
    if journey["release"].finished:
        chapters.append(Chapter("card", "The model card", ending.CARD_LEAD, model_card(journey, measured=True)))
    if journey.finished:
        chapters += [
            Chapter("cost", "What it cost", ending.cost_lead(journey), ending.cost_blocks(journey)),
            Chapter("again", "The same again", ending.REPRODUCE_LEAD, ending.reproduce_blocks(journey)),
        ]
    return chapters


def _took(journey: Journey, record: Record) -> str:
    cost = stage_cost(record, journey.options)
    return f"{figures.duration(cost.wall_seconds)} · {figures.watt_hours(cost.energy_watt_hours)}"


def _lead(journey: Journey) -> str:
    """The whole journey in a sentence, as far as it has come."""
    pages, documents, pretrain = journey["pages"], journey["documents"], journey["pretrain"]
    if not pages.finished:
        return "Nothing has been raised here yet."
    start, took = figures.count(pages.get("pages", 0)), figures.duration(total(costs(journey)).wall_seconds)
    if pretrain.finished:
        size = figures.short_count(pretrain.get("parameters", 0))
        talks = " that answers in a chat" if journey["posttrain"].finished else ""
        return f"From {start} web pages to a language model of {size} parameters{talks}. It took {took}."
    if documents.finished:
        kept = figures.count(documents.get("funnel", [{"documents": 0}])[-1]["documents"])
        return f"From {start} web pages to {kept} documents, so far. It took {took}."
    return f"{start} web pages, gathered in {took}."


def _path(journey: Journey) -> list[Figure]:
    """The big numbers from pages to answers, for the stages that are finished."""
    found = []
    if journey["pages"].finished:
        found.append(Figure(figures.count(journey["pages"].get("pages", 0)), "web pages"))
    if journey["documents"].get("funnel"):
        found.append(Figure(figures.count(journey["documents"].get("funnel")[-1]["documents"]), "documents"))
    if journey["tokens"].finished:
        found.append(Figure(figures.short_count(journey["tokens"].get("totals.tokens", 0)), "tokens"))
    if journey["pretrain"].finished:
        found.append(Figure(figures.short_count(journey["pretrain"].get("parameters", 0)), "parameters"))
    right = journey["posttrain"].get("success.all.models.final.rate")
    if right is not None:
        found.append(Figure(figures.percent(right, 0), "right answers", "of held-out prompts"))
    return found


def _exchange(journey: Journey) -> Chat | None:
    """Something the herd says: an answer of the chat model, before that a continuation by the base model."""
    if found := posttraining.exchange(journey["posttrain"]):
        return found
    for pair in [pair for entry in journey["pretrain"].get("samples", [])[-1:] for pair in entry["samples"][:1]]:
        return Chat([Turn("user", pair["prompt"])], [("", clip(pair["text"], 260), "")])
    return None
