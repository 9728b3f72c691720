"""Questions whose answers stand, word for word, in one of the herd's documents.

Open-book families show the passage and ask for something in it; closed-book families ask what a page or a term is
about, and teach the model to answer from what it has read (paper, section 4.3.6: no new knowledge is added).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain, pairwise, zip_longest

from herdsman.synthesis.material import Material, Passage, code_names
from herdsman.synthesis.prompt import Prompt, Split, as_typed, generator, split_of
from herdsman.tokens.chat import Message

ENGINE = "synthesis.grounded@1"
BLANK = "____"
LONGEST_PASSAGE = 240

ABOUT = ("What is the page {subject} about?", "Tell me about {subject}.", "What does the page {subject} say?")
DEFINE = (
    "What is {subject}?", "What's {subject}?", "What does {term} mean?", "Explain {term}.", "Define {term}.",
    "Tell me what {subject} is.", "Can you explain {term}?", "What is meant by {term}?",
)  # fmt: skip
WORDINGS_EACH = 5
MENTION = ("Which name from the code is in this text? {text}", "Name the code object in this text: {text}")
GAP = ("Fill in the blank: {text}", "Which name is missing? {text}")
QUOTE = ("Which of these sentences is about {name}? {text}", "Copy the sentence about {name}: {text}")


def make_open_book(
    material: Material, exclude: Material | None, count: int, seed: int, split: Split
) -> Iterator[Prompt]:
    """`count` open-book prompts, or fewer if the documents do not yield them.

    Args:
        exclude: material whose sentences must not be used: the training documents' when `material` is held out.
    """
    used = {passage.text for passage in exclude.sentences} if exclude else set()
    fresh = [passage for passage in material.sentences if passage.text not in used]
    rng = generator(seed, "open_book", split)
    families = [list(make(fresh, rng)) for make in (_mentions, _gaps, _quotes)]
    for family in families:
        rng.shuffle(family)
    yield from _taken(families, count)


def make_closed_book(material: Material, count: int, seed: int, split: Split) -> Iterator[Prompt]:
    """`count` closed-book prompts about terms, then about the documents that `material` comes from, or fewer.

    Nobody can answer about a page they have not read, so the split holds out ways to ask, not what is asked about.
    """
    rng = generator(seed, "closed_book", split)
    terms = [
        ("define", found.term, f"{_article(found.term)} {found.term}" if found.countable else found.term, found.passage)
        for found in material.definitions
    ]
    pages = [("about", page.title, page.title, page) for page in material.openings if len(page.title) <= 60]
    made = []
    for entries, wordings in ((terms, DEFINE), (pages, ABOUT)):
        for family, term, subject, passage in entries:
            mine = [w for w in wordings if split_of("grounded", family, [term.lower(), w]) == split]
            others = rng.sample(mine[1:], min(WORDINGS_EACH, len(mine)) - 1) if mine else []
            for wording in [*mine[:1], *others]:
                question = as_typed(rng, wording.format(term=term, subject=subject))
                made.append(_prompt(family, question, passage.text, [passage], {"open_book": False}))
    yield from _taken([made], count)


def _article(noun: str) -> str:
    return "an" if noun[0].lower() in "aeiou" else "a"


def _mentions(passages: list[Passage], rng: random.Random) -> Iterator[Prompt]:
    for passage in passages:
        names = code_names(passage.text)
        if len(names) == 1:
            question = rng.choice(MENTION).format(text=passage.text)
            yield _prompt("mention", question, names[0], [passage], {"open_book": True})


def _gaps(passages: list[Passage], rng: random.Random) -> Iterator[Prompt]:
    """Two sentences of a document with the same name in both, blanked in the second."""
    for name, (first, second) in _pairs_sharing_a_name(passages):
        text = f"{first.text} {second.text.replace(name, BLANK)}"
        if len(text) <= LONGEST_PASSAGE:
            question = rng.choice(GAP).format(text=text)
            yield _prompt("gap", question, name, [first, second], {"open_book": True})


def _quotes(passages: list[Passage], rng: random.Random) -> Iterator[Prompt]:
    """Two sentences of a document, one of which holds the name asked for."""
    for passage, other in pairwise(passages):
        names = code_names(passage.text)
        same_document = passage.document == other.document
        if not same_document or not names or names[0] in other.text or len(passage.text + other.text) > LONGEST_PASSAGE:
            continue
        pair = [passage.text, other.text] if rng.random() < 0.5 else [other.text, passage.text]
        question = rng.choice(QUOTE).format(name=names[0], text=" ".join(pair))
        yield _prompt("quote", question, passage.text, [passage], {"open_book": True})


def _pairs_sharing_a_name(passages: list[Passage]) -> Iterator[tuple[str, tuple[Passage, Passage]]]:
    holders: dict[tuple[str, str], list[Passage]] = defaultdict(list)
    for passage in passages:
        for name in dict.fromkeys(code_names(passage.text)):
            holders[passage.document, name].append(passage)
    for (_, name), found in holders.items():
        if len(found) >= 2:
            yield name, (found[0], found[1])


def _prompt(family: str, question: str, answer: str, passages: list[Passage], facts: dict[str, object]) -> Prompt:
    return Prompt(
        messages=(Message("user", question),),
        source="grounded",
        family=family,
        reference=answer,
        facts={**facts, "answer": answer},
        engine=ENGINE,
        parents=tuple(dict.fromkeys(passage.document for passage in passages)),
        licence=passages[0].licence,
    )


def _taken(families: list[list[Prompt]], count: int) -> Iterator[Prompt]:
    """Up to `count` prompts, turn by turn from each family while it has any, no two alike."""
    seen: set[str] = set()
    for prompt in chain.from_iterable(zip_longest(*families)):
        if prompt is not None and len(seen) < count and prompt.id not in seen:
            seen.add(prompt.id)
            yield prompt
