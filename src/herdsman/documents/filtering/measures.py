"""What is measured of a text for the heuristic rules of `filters`: each number once, from words counted once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from herdsman.documents.extraction.blocks import BULLET, CODE, ITEM, PROSE, ROW
from herdsman.documents.filtering.dirty_words import SPACELESS, dirty_words
from herdsman.documents.filtering.repetition import DUPLICATE_SIZES, TOP_SIZES, repeated_grams, repeated_pieces

Features = dict[str, float]

LINE_CHARS = 20  # below which a line is a label, such as "Returns:", that a reference may well repeat
SHORT_LINE_CHARS = 30  # FineWeb
EXTRACTED = (
    "chars", "kept_share", "code_chars", "link_chars", "links", "prose_chars", "paragraphs", "headings", "rows",
    "terms", "blocks", "formulas", "undecodable",
)  # fmt: skip
MEASURED = (
    "code_share", "link_share", "spaceless", "words", "plain_words", "sentences", "word_chars", "lettered_words",
    "stop_words", "symbols", "bullet_lines", "ellipsis_lines", "finished_lines", "short_lines", "policy_lines",
    "placeholder_lines", "script_chars", "outlier_chars", "noise", "dirty_words", "dirty_share", "duplicate_lines",
    "duplicate_line_chars", "duplicate_paragraphs", "duplicate_paragraph_chars",
    *(f"top_{size}" for size in TOP_SIZES), *(f"duplicate_{size}" for size in DUPLICATE_SIZES),
)  # fmt: skip

_SENTENCE_ENDS = (".", "!", "?", '."', '!"', '?"', ".”", "!”", "?”", ".)", "!)", "?)", "。", "！", "？", "」", "।", "؟")
_BULLETS = (BULLET, "- ", "* ", "· ")
# A line of a program or a style sheet that was taken for text.
_SCRIPT_ENDS = ("{", ");", "};")
_SCRIPT_STARTS = ("}", "var ", "let ", "const ", "function", "@media", "@import", "window.", "document.", "<")
_SCRIPT = re.compile(
    r"\}|(?:var|let|const)\s+\w+\s*=|function\b.*\(|@media\b|@import\b|window\.|document\.|</?\w+[\s>]"
)
_POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")  # C4
_OUTLIER = re.compile(  # Base64, hashes, keys
    r"[A-Za-z0-9+/=_-]{41,}|(?=\S*[0-9])(?=\S*[a-z])(?=\S*[A-Z])[A-Za-z0-9+/=_-]{24,}$"
)
_OUTLIER_CHARS = 24  # from which on a word may be one
_NOISE = re.compile("[\ufffd\ue000-\uf8ff\ufff0-\ufffb\U000f0000-\U0010fffd]")
_FIRST_NOISE = 0xE000
_CODES = 0x32000  # code points, above which there are no letters in use
_LETTER, _DIGIT, _STOP, _CLOSING = 1, 2, 4, 8  # classes of characters
_AROUND_WORDS = ".,;:!?'\"()[]{}<>«»“”‘’„…*_-–—"
_STOP_WORDS = {
    # English as in Gopher; the others are likewise among the most frequent words of their languages.
    "en": "the be to of and that have with",
    "de": "der die und in zu den das nicht von sie ist des mit",
    "fr": "de la le et les des en un du une que est pour",
    "es": "de la que el en y a los se del las un por con",
    "it": "di che e la il un a per in una sono non",
    "pt": "de que e o a do da em um para com não uma os",
    "nl": "de en van te dat die in een het niet zijn is",
    "pl": "w i na z do się nie że to jest jak po",
    "sv": "och i att det som en på är av för med till den",
    "da": "og i at det er en til på som med for de af den",
    "no": "og i det er på til som en av for at med ikke",
    "fi": "ja on ei se että oli hän kun myös mutta ovat tai joka",
    "cs": "a v se na je že o s z do i to k",
    "sk": "a v sa na je že o s z do to ako pre",
    "hu": "a az és hogy nem is egy meg de ez azt csak volt",
    "ro": "de și în a la cu pe nu care o din un este",
    "tr": "ve bir bu da de için ile çok ne daha gibi olarak",
    "el": "και το να του η της με που την από για είναι στο",
    "ru": "и в не на я он с что а по это к но",
    "uk": "і в не на що з до у та як за від це",
    "bg": "на и в за се от да е с са по не",
    "ca": "de la i el que a en per un les del és amb",
    "id": "yang dan di untuk dengan dari ini pada dalam adalah tidak itu",
    "vi": "và của là có cho các trong được một không với những",
    "ar": "في من على أن إلى هذا عن مع التي ما لا هذه",
    "fa": "و در به از که این را با است برای آن",
    "he": "של את על לא הוא עם זה היא או גם כי",
    "hi": "के में की है और से का को पर ने यह",
}
STOP_WORDS = {language: frozenset(words.split()) for language, words in _STOP_WORDS.items()}


def measure(text: str, kinds: str, language: str, extracted: Mapping[str, float]) -> Features:
    """What the rules look at. Shares are of lines, words or characters outside code and tables, unless said otherwise.

    Returns:
        What extraction measured, and
        "code_share", "link_share": of all characters; "spaceless": 1 for a language whose words are characters;
        "words": of the whole text; "plain_words": of them outside code and tables; "sentences": marks that end one;
        "word_chars": mean length of a word; "lettered_words": share with a letter;
        "stop_words": different stop words found, left out for a language without a list;
        "symbols": number signs and ellipses per word; "bullet_lines", "ellipsis_lines", "policy_lines" (cookies, terms
        of use), "placeholder_lines" (lorem ipsum): shares of the lines; "finished_lines", "short_lines": shares of the
        lines of prose that end in punctuation and that have under 30 characters;
        "script_chars": share in lines that read like a program; "outlier_chars": share in words no language has;
        "noise": share of the whole text's characters that are no characters;
        "dirty_words": different ones found, and "dirty_share": of the words, left out for a language without a list;
        the measures of `repetition`.
    """
    every = text.split("\n")
    flags = kinds.encode("ascii", "replace")
    plain_flags = flags.translate(_IS_PLAIN)
    lines = list(compress(every, plain_flags))
    others = compress(every, flags.translate(_IS_OTHER))
    plain = "\n".join(lines)
    spaceless = language in SPACELESS
    words = list("".join(plain.split())) if spaceless else plain.split()
    other_text = "\n".join(others)
    other_words = len("".join(other_text.split())) if spaceless else len(other_text.split())
    unique = list(dict.fromkeys(words))
    numbers = dict(zip(unique, range(len(unique)), strict=True))
    ids = np.fromiter(map(numbers.__getitem__, words), np.int64, len(words))
    sizes = np.fromiter(map(len, unique), np.int64, len(unique))
    counts = np.bincount(ids, minlength=len(unique))
    bare, lettered, stops = _look_at(unique, sizes)
    stripped = list(map(str.lstrip, lines))
    count, chars, rows = max(len(words), 1), max(len(plain), 1), max(len(lines), 1)
    whole = max(extracted["chars"], 1)
    script = [line for line in stripped if line.endswith(_SCRIPT_ENDS) or _starts_script(line)]
    features: Features = {
        "code_share": extracted["code_chars"] / whole,
        "link_share": extracted["link_chars"] / whole,
        "spaceless": float(spaceless),
        "words": len(words) + other_words,
        "plain_words": len(words),
        "sentences": int(counts[stops].sum()),
        "word_chars": int(counts @ sizes) / count,
        "lettered_words": int(counts[lettered].sum()) / count,
        "symbols": (plain.count("#") + plain.count("...") + plain.count("…")) / count,
        "bullet_lines": sum(line.startswith(_BULLETS) for line in stripped) / rows,
        "ellipsis_lines": sum(line.endswith(("...", "…")) for line in lines) / rows,
        "script_chars": sum(map(len, script)) / chars,
        "noise": _noise(text),
    }
    long = np.flatnonzero(sizes >= _OUTLIER_CHARS)
    features["outlier_chars"] = (
        sum(int(counts[n] * sizes[n]) for n in long.tolist() if _OUTLIER.match(unique[n])) / chars
    )
    if language in STOP_WORDS:
        features["stop_words"] = len(STOP_WORDS[language].intersection(bare))
    prose = list(compress(every, flags.translate(_IS_PROSE)))
    features["finished_lines"] = sum(line.endswith(_SENTENCE_ENDS) for line in prose) / max(len(prose), 1)
    features["short_lines"] = sum(len(line) < SHORT_LINE_CHARS for line in prose) / max(len(prose), 1)
    folded = plain.lower()
    policies = [said for said in _POLICY if said in folded]
    features["policy_lines"] = (
        sum(any(said in line for said in policies) for line in folded.split("\n")) / rows if policies else 0.0
    )
    features["placeholder_lines"] = folded.count("lorem ipsum") / rows
    features |= dirty_words(language, bare, counts, folded)
    repeatable = [line for line in lines if len(line) >= LINE_CHARS]
    features["duplicate_lines"], features["duplicate_line_chars"] = repeated_pieces(repeatable)
    # A paragraph repeats only where a line does.
    blocks = [] if len(set(lines)) == len(lines) else _paragraphs(every, plain_flags)
    features["duplicate_paragraphs"], features["duplicate_paragraph_chars"] = repeated_pieces(blocks)
    features |= repeated_grams(ids, sizes[ids])
    return {**extracted, **{name: round(value, 4) for name, value in features.items()}}


def _table(kinds: str, others: bool = False) -> bytes:
    """A translation of kinds into 1 for these, or for all but these, and 0."""
    return bytes((chr(code) in kinds) != others for code in range(256))


_IS_PLAIN = _table(f"{CODE}{ROW} ", others=True)
_IS_OTHER = _table(f"{CODE}{ROW} ")
_IS_PROSE = _table(PROSE + ITEM)


@cache
def _classes() -> NDArray[np.uint8]:
    """Of each code point whether it is a letter, a digit, the end of a sentence, or closes what stands after that."""
    classes = np.zeros(_CODES, np.uint8)
    for code in range(_CODES):
        character = chr(code)
        if character.isalnum():
            classes[code] = _DIGIT if character.isdecimal() else _LETTER
    classes[[ord(character) for character in ".!?。！？।؟"]] = _STOP
    classes[[ord(character) for character in "\"'”’)]»」"]] = _CLOSING
    return classes


def _look_at(words: list[str], sizes: NDArray[np.int64]) -> tuple[list[str], NDArray[np.bool_], NDArray[np.bool_]]:
    """The words in lower case without punctuation around them; which have a letter; and which end a sentence."""
    lower = list(map(str.lower, words))
    if not words:
        return lower, np.empty(0, np.bool_), np.empty(0, np.bool_)
    codes = np.frombuffer("".join(words).encode("utf-32-le", "surrogatepass"), np.uint32)
    classes = _classes().take(codes, mode="clip")
    ends = np.cumsum(sizes)
    starts = ends - sizes
    last = classes[ends - 1]
    is_bare = (classes[starts] & (_LETTER | _DIGIT) > 0) & (last & (_LETTER | _DIGIT) > 0)
    for at in np.flatnonzero(~is_bare).tolist():
        lower[at] = lower[at].strip(_AROUND_WORDS)
    lettered = np.bitwise_or.reduceat(classes, starts) & _LETTER > 0
    stops = (last == _STOP) | ((last == _CLOSING) & (sizes > 1) & (classes[np.maximum(ends - 2, 0)] == _STOP))
    return lower, lettered, stops


def _starts_script(line: str) -> bool:
    return line.startswith(_SCRIPT_STARTS) and bool(_SCRIPT.match(line))


def _noise(text: str) -> float:
    if text.isascii() or np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).max() < _FIRST_NOISE:
        return 0.0
    return len(_NOISE.findall(text)) / len(text)


def _paragraphs(lines: list[str], flags: bytes) -> list[str]:
    """Runs of lines that are neither code nor rows nor empty, without labels."""
    runs = "\n".join([line if flag else "" for line, flag in zip(lines, flags, strict=False)]).split("\n\n")
    return [run for run in (run.strip("\n") for run in runs) if len(run) >= LINE_CHARS]
