"""How the guard reads a text: sentence by sentence, words only."""

from __future__ import annotations

import re

WORD = re.compile(r"[^\W\d_]+")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
SHORT_WORDS = 4


def normalised(text: str) -> str:
    """The text's words in lower case.

    Punctuation and digits go: they betray which collection a prompt is from, not what it asks.
    """
    return " ".join(WORD.findall(text.lower()))


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text that are not blank."""
    return [part.strip() for part in SENTENCE_END.split(text) if part.strip()]


def pieces(text: str) -> list[str]:
    """The text in normalised sentences, each of at least four words where the text has them.

    A shorter sentence goes with the one before it (the first with the one after), so that "Do it. Now." is one piece.
    """
    parts: list[str] = []
    for sentence in filter(None, map(normalised, sentences(text))):
        if parts and (len(sentence.split()) < SHORT_WORDS or len(parts[-1].split()) < SHORT_WORDS):
            parts[-1] += " " + sentence
        else:
            parts.append(sentence)
    return parts
