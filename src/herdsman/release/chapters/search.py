"""Chapter of the index that chat models search."""

from __future__ import annotations

from herdsman.release import figures
from herdsman.release.blocks import Block, Code
from herdsman.release.journey import Journey, Record

TITLE = "Looking things up"


def lead(record: Record) -> str:
    documents, passages = (figures.count(record.get(key, 0)) for key in ("documents", "passages"))
    return (
        f"{passages} passages of {documents} training documents can be searched, by people and by the model in a chat; "
        f"the index takes {figures.size(record.get('bytes', 0))}."
    )


def blocks(journey: Journey) -> list[Block]:
    return [Code(f"herdsman chat herds/{journey.name} --tools search")]
