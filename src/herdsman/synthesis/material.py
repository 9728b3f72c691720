"""What prompts are made of: words, names and passages found in the herd's own documents."""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

CHARACTERS_READ = 12_000
WORDS_KEPT = 1500
NAMES_KEPT = 1500
SENTENCES_PER_DOCUMENT = 12

WORD = re.compile(r"(?<![\w.])[a-z]{3,10}(?![\w(.])")
CODE_NAME = re.compile(
    r"(?<![\w.])(?:[a-z_]{2,30}(?:\.[A-Za-z_]\w{1,30}){1,5}|(?:[A-Z][a-z]{1,20}){2,5}|[a-z]{2,20}(?:_[a-z]{2,20}){1,5})"
    r"(?:\(\))?(?![.]?\w)"
)
SENTENCE_BORDER = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
SENTENCE = re.compile(r"[A-Z][^\n]{38,178}\.")
DEFINITION = re.compile(
    r"(?:The |An? )?(?P<term>(?!It\b|This\b|That\b|There\b|These\b|What\b|Here\b|If\b|When\b|Each\b|All\b|Both\b|Note\b)"
    r"[A-Za-z][\w.()]*(?: [a-z]\w+){0,2}) (?:is|are) (?:an? |the |used |how )[a-z]"
)
WEB_ADDRESS = re.compile(r"https?:|www\.|@")


@dataclass(frozen=True)
class Passage:
    """A sentence of a document, with the document's id, title and licence."""

    document: str
    title: str
    licence: str
    text: str


@dataclass
class Material:
    """Words and names in falling order of how many documents hold them, and passages in the documents' order.

    Attributes:
        words: lower-case words that are not Python keywords.
        dotted_names: dotted Python names with at least two parts.
        openings: the first sentence of each document that has a title.
        definitions: sentences that say what something is, with the thing they define.
        sentences: a few sentences of each document.
    """

    words: list[str] = field(default_factory=list)
    dotted_names: list[str] = field(default_factory=list)
    openings: list[Passage] = field(default_factory=list)
    definitions: list[tuple[str, Passage]] = field(default_factory=list)
    sentences: list[Passage] = field(default_factory=list)

    @property
    def enough(self) -> bool:
        """True if every generator has something to draw from."""
        return len(self.words) >= 20 and len(self.dotted_names) >= 5 and len(self.sentences) >= 5


def gather_material(documents: Iterable[Mapping[str, Any]]) -> Material:
    """Reads the beginning of every document (fields id, title, text, licence)."""
    material = Material()
    words: Counter[str] = Counter()
    names: Counter[str] = Counter()
    for row in documents:
        text = row["text"][:CHARACTERS_READ]
        words.update(set(WORD.findall(text)))
        names.update({name for name in CODE_NAME.findall(text) if _is_dotted(name)})
        found = [Passage(row["id"], row["title"] or "", row["licence"] or "", sentence) for sentence in sentences(text)]
        if found and found[0].title:
            material.openings.append(found[0])
        for passage in found:
            if (defined := DEFINITION.match(passage.text)) and len(defined["term"]) >= 3:
                material.definitions.append((defined["term"], passage))
        material.sentences += found[:SENTENCES_PER_DOCUMENT]
    material.words = [word for word in _commonest(words) if not keyword.iskeyword(word)][:WORDS_KEPT]
    material.dotted_names = _commonest(names)[:NAMES_KEPT]
    return material


def sentences(text: str) -> list[str]:
    """Whole sentences of running prose, as they stand in the text."""
    found = []
    for line in text.splitlines():
        for sentence in SENTENCE_BORDER.split(line.strip()):
            if SENTENCE.fullmatch(sentence) and _is_prose(sentence):
                found.append(sentence)
    return found


def code_names(sentence: str) -> list[str]:
    """Names from the code in a sentence, in order."""
    return CODE_NAME.findall(sentence)


def _is_prose(sentence: str) -> bool:
    letters = sum(character.isalpha() or character == " " for character in sentence)
    return letters >= 0.85 * len(sentence) and sentence.count(" ") >= 6 and not WEB_ADDRESS.search(sentence)


def _is_dotted(name: str) -> bool:
    parts = name.split(".")
    return (
        len(parts) in (2, 3) and len(name) <= 30 and not any(map(keyword.iskeyword, parts)) and not name.endswith(")")
    )


def _commonest(counter: Counter[str]) -> list[str]:
    return [item for item, _ in sorted(counter.items(), key=lambda pair: (-pair[1], pair[0]))]
