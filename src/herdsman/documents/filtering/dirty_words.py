"""Dirty words by language (C4, Raffel et al. 2020, section 2.2): what gives away adult pages that no list names.

C4 drops a page for a single one. Here different ones and their share are counted, in whole words, and what medicine,
law and news have to say does not count. The lists are LDNOOBW's, in 23 languages.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from herdsman.artifacts import ARTIFACTS, fetch, read_member

SPACELESS = frozenset({"zh", "ja", "th", "lo", "km", "my", "bo", "wuu", "yue"})  # written so: a character is a word
PACKAGE = "glin-profanity"
_LISTS = {
    "ar": "arabic", "cs": "czech", "da": "danish", "de": "german", "en": "english", "eo": "esperanto", "es": "spanish",
    "fa": "persian", "fi": "finnish", "fr": "french", "hi": "hindi", "hu": "hungarian", "it": "italian",
    "ja": "japanese", "ko": "korean", "nl": "dutch", "no": "norwegian", "pl": "polish", "pt": "portuguese",
    "ru": "russian", "sv": "swedish", "th": "thai", "tr": "turkish", "zh": "chinese",
}  # fmt: skip
_NEUTRAL = """
    18+ anal anus bastard beaver beaners bondage breasts bs clitoris coon dick domination dominatrix ejaculation
    escort ethical fecal genitals god hardcore hell hoe hooker incest intercourse kinky masturbation mf nazi negro
    neonazi nipple nipples nude nudity orgasm pedophile pedophilia penis pissed pornography queer rape rapist rectum
    retard retarded scat semen servitude sex sexual sexuality sexually simp snatch sodomy sperm suck sucks suicide
    swastika testbad01 testicle topless transsexual vagina vibrator violet voyeur vulva wtf xx xxx
"""
_AROUND_WORDS = ".,;:!?'\"()[]{}<>«»“”‘’„…*_-–—"


@cache
def _words(language: str) -> tuple[frozenset[str], dict[str, list[str]], frozenset[str]]:
    """The single words of a language's list, its phrases by their first words, and what both begin with."""
    member = f"glin_profanity/data/dictionaries/{_LISTS[language]}.json"
    listed = {word.strip().lower() for word in json.loads(read_member(fetch(ARTIFACTS[PACKAGE]), member))["words"]}
    # A character of Chinese is part of many harmless words, and two letters are an abbreviation of anything.
    listed = {word for word in listed.difference(_NEUTRAL.split()) if len(word) > (1 if language in SPACELESS else 2)}
    singles = frozenset(word for word in listed if " " not in word)
    phrases: dict[str, list[str]] = {}
    for phrase in sorted(listed - singles):
        phrases.setdefault(phrase.split()[0], []).append(phrase)
    return singles, phrases, singles | phrases.keys()


def dirty_words(language: str, words: Sequence[str], counts: NDArray[np.int64], text: str) -> dict[str, float]:
    """How many different dirty words a text has, "dirty_words", and their share of all, "dirty_share".

    Args:
        words: the different words of the text in lower case, without punctuation around them, with `counts`.
        text: in lower case.

    Returns:
        Nothing for a language without a list. Without spaces between words the share is one of characters.
    """
    if language not in _LISTS:
        return {}
    singles, phrases, firsts = _words(language)
    if language in SPACELESS:
        found = {word: text.count(word) * len(word) for word in singles if word in text}
        return {"dirty_words": len(found), "dirty_share": sum(found.values()) / max(len(text), 1)}
    hits = firsts.intersection(words)
    found = dict.fromkeys(hits & singles, 0)
    if found:
        for word, count in zip(words, counts.tolist(), strict=True):
            if word in found:
                found[word] += count
    different = set(words) if hits else hits
    for first in hits & phrases.keys():
        for phrase in phrases[first]:
            parts = phrase.split()
            if different.issuperset(parts) and phrase in text:
                found[phrase] = text.count(phrase) * len(parts)
    return {"dirty_words": len(found), "dirty_share": sum(found.values()) / max(int(counts.sum()), 1)}
