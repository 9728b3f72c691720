"""What prompts are made of: words, names and passages found in the herd's own documents."""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

CHARACTERS_READ = 12_000
WORDS_KEPT = 1500
NAMES_KEPT = 1500
SENTENCES_PER_DOCUMENT = 12

WORD = re.compile(r"(?<![\w.])[a-z]{3,10}(?![\w(.])")
CODE_NAME = re.compile(
    r"(?<![\w.])(?:[a-z_]{2,30}(?:\.[A-Za-z_]\w{1,30}){1,5}|(?:[A-Z][a-z]{1,20}){2,5}"
    r"|[a-z]{2,20}(?:_[a-z]{2,20}){1,5})(?:\(\))?(?![.]?\w)"
)
SENTENCE_BORDER = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
SENTENCE = re.compile(r"[A-Z][^\n]{38,178}\.")
GLOSSARY_ENTRY = re.compile(
    r"^(?P<term>[A-Za-z][\w ()-]{2,30}\w)\n(?P<sentence>(?!See )[A-Z][^\n]{14,160}?[a-z)\]]\.)(?=\s|$)", re.MULTILINE
)
DEFINITION = re.compile(r"An? (?P<term>[a-z][\w.()-]*(?: [a-z][\w-]+){0,2}) (?:is|are) (?:an? |the |used |how )[a-z]")
MODULE_TITLE = re.compile(r"(?:\d+(?:\.\d+)*\.? )?(?P<name>[a-z][\w.]{2,24}) — \w")
SECTION_NUMBER = re.compile(r"^\d+(?:\.\d+)*\.? ")
WEB_ADDRESS = re.compile(r"https?:|www\.|@")


@dataclass(frozen=True)
class Passage:
    """A sentence of a document, with the document's id, title and licence."""

    document: str
    title: str
    licence: str
    text: str


@dataclass(frozen=True)
class Definition:
    """What a term means.

    Attributes:
        countable: the term takes an article: "a list", not "a datetime".
    """

    term: str
    countable: bool
    passage: Passage


@dataclass
class Material:
    """Words and names in falling order of how many documents hold them, and passages in the documents' order.

    Attributes:
        words: lower-case words that are not Python keywords.
        dotted_names: dotted Python names with at least two parts.
        openings: the first sentence of each document that names what its title names.
        definitions: sentences that say what a term means, the terms that most documents hold first, each once.
        sentences: a few sentences of each document.
    """

    words: list[str] = field(default_factory=list)
    dotted_names: list[str] = field(default_factory=list)
    openings: list[Passage] = field(default_factory=list)
    definitions: list[Definition] = field(default_factory=list)
    sentences: list[Passage] = field(default_factory=list)

    @property
    def enough(self) -> bool:
        """True if every generator has something to draw from."""
        return len(self.words) >= 20 and len(self.dotted_names) >= 5 and len(self.sentences) >= 5


def gather_material(documents: Iterable[Mapping[str, Any]]) -> Material:
    """Reads the beginning of every document (fields id, title, text, licence), and all of a glossary."""
    material = Material()
    words: Counter[str] = Counter()
    names: Counter[str] = Counter()
    definitions: dict[str, Definition] = {}
    for row in documents:
        text = row["text"][:CHARACTERS_READ]
        words.update(set(WORD.findall(text)))
        names.update({name for name in CODE_NAME.findall(text) if _is_dotted(name)})
        found = [_passage(row, sentence) for sentence in sentences(text)]
        if found and _names(found[0].text, found[0].title):
            material.openings.append(found[0])
        material.sentences += found[:SENTENCES_PER_DOCUMENT]
        for definition in _definitions(row, found):
            definitions.setdefault(definition.term.lower(), definition)
    material.words = [word for word in _commonest(words) if not keyword.iskeyword(word)][:WORDS_KEPT]
    material.dotted_names = _commonest(names)[:NAMES_KEPT]
    material.definitions = sorted(definitions.values(), key=lambda found: -words[found.term])
    return material


def _definitions(row: Mapping[str, Any], found: list[Passage]) -> Iterator[Definition]:
    """Entries of a glossary; what the page of a module says first of it; sentences of the form "a term is a ..."."""
    if "glossary" in (row["title"] or "").lower():
        for entry in GLOSSARY_ENTRY.finditer(row["text"]):
            term, sentence = entry["term"], entry["sentence"]
            if sentence.count(" ") >= 3 and sentence.count("(") == sentence.count(")"):
                countable = term[0].islower() and sentence.startswith(("A ", "An ", "The ", "Any "))
                yield Definition(term, countable, _passage(row, sentence))
    module = MODULE_TITLE.match(row["title"] or "")
    if module and found and re.search(rf"\b{re.escape(module['name'])}\b", found[0].text):
        yield Definition(module["name"], False, found[0])
    for passage in found:
        if defined := DEFINITION.match(passage.text):
            yield Definition(defined["term"], True, passage)


def _passage(row: Mapping[str, Any], sentence: str) -> Passage:
    return Passage(row["id"], SECTION_NUMBER.sub("", row["title"] or ""), row["licence"] or "", sentence)


def _names(sentence: str, title: str) -> bool:
    """True if the sentence holds a longer word of the title, or the title's only word."""
    words = re.findall(r"\w{4,}", title.lower()) or title.lower().split()
    return any(word in sentence.lower() for word in words)


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
