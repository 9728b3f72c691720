"""A model card's sections as Markdown, with the header that the Hugging Face Hub reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from herdsman.release.blocks import Block, Code, Items, Prose, Section, Table
from herdsman.release.card import languages
from herdsman.release.journey import Journey


def as_markdown(card: Iterable[Section], journey: Journey) -> str:
    """The whole README.md."""
    parts = [_header(journey), f"# {_plain(journey.name)}"]
    for section in card:
        parts += [f"## {section.title}", *(_block(block) for block in section.blocks)]
    return "\n\n".join(parts) + "\n"


def _header(journey: Journey) -> str:
    lines = [
        "---",
        f"license: {journey.options.licence}",
        "library_name: transformers",
        "pipeline_tag: text-generation",
    ]
    known = [code for code in languages(journey) if re.fullmatch(r"[a-z]{2,3}", code)]
    if known:
        lines += ["language:", *(f'- "{code}"' for code in known)]
    return "\n".join([*lines, "tags:", "- llama", "- herdsman", "---"])


def _block(block: Block) -> str:
    match block:
        case Prose():
            return _plain(str(block.text))
        case Items():
            return "\n".join(f"- {_plain(item)}" for item in block.items)
        case Code():
            return f"```python\n{block.text}\n```"
        case Table():
            return "\n".join(_table(block))
    raise TypeError(f"a model card holds no {block.kind}")


def _table(table: Table) -> Iterator[str]:
    yield _row(table.columns)
    yield "|" + "|".join("---" if place in table.text_columns else "---:" for place in range(len(table.columns))) + "|"
    for row in table.rows:
        yield _row(row)
    if table.note:
        yield f"\n{_plain(table.note)}"


def _row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(_plain(str(cell)).replace("|", "\\|") for cell in cells) + " |"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, one line."""
    return re.sub(r"([\\`*_<\[\]])", r"\\\1", " ".join(text.split()))
