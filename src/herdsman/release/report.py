"""The report: one self-contained HTML page of everything a workspace holds so far. Needs no torch and no network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from herdsman import __version__
from herdsman.files import write_text
from herdsman.release import figures
from herdsman.release.blocks import Block, Chapter, Chat, Figure, Figures
from herdsman.release.card import render_card
from herdsman.release.chapters import ending, gathering, judging, learning, posttraining, refining, safety, tokens
from herdsman.release.cost import costs, stage_cost, total
from herdsman.release.journey import Journey, Record
from herdsman.release.landscape import landscape


def write_report(workspace_root: Path, out: Path) -> None:
    """Writes the page; stages that have not been run say so, so it can be written at any moment of a run.

    Args:
        workspace_root: the herd's folder.
        out: file to write, whole or not at all.
    """
    write_text(out, render_report(Journey.read(workspace_root)))


def render_report(journey: Journey) -> str:
    chapters = _chapters(journey)
    return environment().get_template("report.html").render(
        name=journey.name,
        lead=_lead(journey),
        exchange=_exchange(journey),
        keys=_keys(journey),
        chapters=chapters,
        landscape=landscape(
            [row["loss"] for row in journey["pretrain"].get("curve", [])], [record.stage for record in journey.finished]
        ),
        version=__version__,
    )  # fmt: skip


def environment() -> Environment:
    """Jinja with escaping on for everything: what pages and models say is text, whatever it looks like."""
    return Environment(
        loader=PackageLoader("herdsman.release"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


def _chapters(journey: Journey) -> list[Chapter]:
    def of(stage: str, title: str, lead: Callable[[Record], str], blocks: Callable[[Journey], Sequence[Block]]) -> Chapter:
        record = journey[stage]
        if not record.finished:
            return Chapter(stage, title, "")
        return Chapter(stage, title, lead(record), blocks(journey), _took(journey, record))

    chapters = [
        of("pages", gathering.TITLE, gathering.lead, gathering.blocks),
        of("documents", refining.TITLE, refining.lead, refining.blocks),
        of("tokenizer", tokens.TOKENIZER_TITLE, tokens.tokenizer_lead, tokens.tokenizer_blocks),
        of("tokens", tokens.TOKENS_TITLE, tokens.tokens_lead, tokens.tokens_blocks),
        of("pretrain", learning.TITLE, learning.lead, learning.blocks),
        of("posttrain", posttraining.TITLE, posttraining.lead, posttraining.blocks),
        of("evaluate", judging.TITLE, judging.lead, judging.blocks),
        of("safety", safety.TITLE, safety.lead, safety.blocks),
        of("release", ending.RELEASE_TITLE, ending.release_lead, lambda j: ending.release_blocks(j, render_card(j))),
    ]  # fmt: skip
    if journey.finished:
        chapters += [
            Chapter("cost", "What it cost", ending.cost_lead(journey), ending.cost_blocks(journey)),
            Chapter("again", "The same again", ending.REPRODUCE_LEAD, ending.reproduce_blocks(journey)),
        ]
    return chapters
