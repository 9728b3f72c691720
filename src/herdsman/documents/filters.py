"""Heuristic filters: what a document's text alone says against it (Llama 3, section 3.1.1, heuristic filtering).

Llama 3 names its filters and not their thresholds. Those here are published ones: Gopher's for repetition and quality
(Rae et al. 2021, appendix A.1, tables A1 and A2) and C4's (Raffel et al. 2020, section 2.2). Repetition is measured on
everything but code and tables, where it is no fault.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from herdsman.documents.blocks import BULLET, CODE, ROW
from herdsman.documents.filter_options import FilterOptions
from herdsman.documents.repetition import repetition

Features = dict[str, float]
Facts = dict[str, Any]

FEW_WORDS = 30  # outside code and tables, below which shares of them say nothing
LINE_CHARS = 20  # below which a line is a label, such as "Returns:", that a reference may well repeat
GOPHER_DUPLICATES = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
# Gopher's limits were chosen on articles. A reference describes the same parameter of one function after another: one
# in nine of its pages lies above them, one in sixty above their double, and logs and templates far above that.
REFERENCE_ALLOWANCE = 2

_SPACELESS = frozenset({"zh", "ja", "th", "lo", "km", "my", "bo", "wuu", "yue"})  # written so: a character is a word
_SCRIPT = re.compile(  # a line of a program or a style sheet that was taken for text
    r"(?:\{|\);|\};)\s*$|^\s*(?:\}|(?:var|let|const)\s+\w+\s*=|function\b.*\(|@media\b|@import\b"
    r"|window\.|document\.|</?\w+[\s>])"
)
_OUTLIER = re.compile(  # Base64, hashes, keys
    r"[A-Za-z0-9+/=_-]{41,}|(?=\S*[0-9])(?=\S*[a-z])(?=\S*[A-Z])[A-Za-z0-9+/=_-]{24,}$"
)
_OUTLIER_CHARS = 24  # from which on a word may be one
_NOISE = re.compile("[\ufffd\ue000-\uf8ff\ufff0-\ufffb\U000f0000-\U0010fffd]")
_LETTER = re.compile(r"[^\W\d_]")
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
    "cs": "a v se na je že o s z do i to k",
    "tr": "ve bir bu da de için ile çok ne daha gibi olarak",
    "ru": "и в не на я он с что а по это к но",
    "uk": "і в не на що з до у та як за від це",
}
STOP_WORDS = {language: frozenset(words.split()) for language, words in _STOP_WORDS.items()}


def measure(text: str, kinds: str, language: str) -> Features:
    """What the rules look at. Shares are of lines, words or characters outside code and tables, unless said otherwise.

    Returns:
        The measures of `repetition`, and
        "words": of the whole text; "plain_words": of them outside code and tables;
        "word_chars": mean length of a word; "lettered_words": share with a letter;
        "stop_words": different stop words found, 99 for a language without a list;
        "symbols": number signs and ellipses per word; "bullet_lines", "ellipsis_lines": shares of the lines;
        "script_chars": share in lines that read like a program; "outlier_chars": share in words no language has;
        "noise": share of the whole text's characters that are no characters.
    """
    lines: list[str] = []
    others: list[str] = []
    paragraphs: list[list[str]] = []
    bullets = ellipses = script_chars = 0
    before = " "
    for line, kind in zip(text.split("\n"), kinds, strict=False):
        if kind not in (CODE, ROW, " "):
            lines.append(line)
            if before in (CODE, ROW, " "):
                paragraphs.append([])
            paragraphs[-1].append(line)
            bullets += line.lstrip().startswith((BULLET, "- ", "* ", "· "))
            ellipses += line.endswith(("...", "…"))
            if _SCRIPT.search(line):
                script_chars += len(line)
        else:
            others.append(line)
        before = kind
    plain = "\n".join(lines)
    words = _words(plain, language)
    count, chars = max(len(words), 1), max(len(plain), 1)
    lower = {word.lower() for word in set(words)} if language in STOP_WORDS else set()
    features = {
        "words": len(words) + len(_words("\n".join(others), language)),
        "plain_words": len(words),
        "word_chars": sum(map(len, words)) / count,
        "lettered_words": sum(map(bool, map(_LETTER.search, words))) / count,
        "stop_words": len(STOP_WORDS[language] & lower) if language in STOP_WORDS else 99,
        "symbols": (plain.count("#") + plain.count("...") + plain.count("…")) / count,
        "bullet_lines": bullets / max(len(lines), 1),
        "ellipsis_lines": ellipses / max(len(lines), 1),
        "script_chars": script_chars / chars,
        "outlier_chars": sum(len(word) for word in words if len(word) >= _OUTLIER_CHARS and _OUTLIER.match(word))
        / chars,
        "noise": 0.0 if text.isascii() else len(_NOISE.findall(text)) / max(len(text), 1),
    }
    features = {name: round(value, 4) for name, value in features.items()}
    repeatable = [line for line in lines if len(line) >= LINE_CHARS]
    blocks = ["\n".join(paragraph) for paragraph in paragraphs]
    return features | repetition(repeatable, [block for block in blocks if len(block) >= LINE_CHARS], words)


@dataclass(frozen=True)
class Rule:
    """A reason to drop a document.

    Attributes:
        broken: for (facts, options), true if the document is to be dropped. Facts are the features of `extract` and
            `measure`, "language" and "language_score".
        reason: a sentence for people; a format string over the facts and `options`.
    """

    name: str
    broken: Callable[[Facts, FilterOptions], bool]
    reason: str


def _has_plain_text(facts: Facts) -> bool:
    return facts["plain_words"] >= FEW_WORDS


def _is_mostly_code(facts: Facts) -> bool:
    return facts["code_chars"] > 0.5 * facts["chars"]


def _above(name: str, feature: str, limit: float, said: str) -> Rule:
    """A rule that a share outside code and tables must not exceed a limit."""
    return Rule(
        name,
        lambda facts, options: _has_plain_text(facts) and facts[feature] > limit,
        f"{said} (limit {limit:.0%})".replace("SHARE", f"{{{feature}:.0%}}"),
    )


# The order is that of the reports: the first rule that a document breaks names why it was dropped.
RULES: tuple[Rule, ...] = (
    Rule("no text", lambda facts, options: facts["words"] == 0, "nothing is left of the page without navigation"),
    Rule(
        "undecodable",
        # Our choice: one page in a thousand has as much by accident.
        lambda facts, options: max(facts["undecodable"], facts["noise"]) > 0.01,
        "{undecodable:.1%} of the page and {noise:.1%} of its text are no characters (limit 1%)",
    ),
    Rule(
        "too short",
        lambda facts, options: facts["words"] < options.min_words,  # Gopher: 50
        "{words:,.0f} words (at least {options.min_words:,})",
    ),
    Rule(
        "too long",
        lambda facts, options: facts["words"] > options.max_words,
        "{words:,.0f} words (at most {options.max_words:,})",
    ),
    Rule(
        "link list",
        # Our choice: indexes and directories lie above 0.68, pages worth reading below 0.45 on the sample.
        lambda facts, options: facts["link_chars"] > 0.6 * facts["chars"],
        "links make {link_chars:,.0f} of {chars:,.0f} characters (limit 60%)",
    ),
    Rule(
        "few letters",
        lambda facts, options: _has_plain_text(facts) and facts["lettered_words"] < 0.8,  # Gopher
        "{lettered_words:.0%} of the words have a letter (at least 80%)",
    ),
    Rule(
        "odd word length",
        # Gopher; languages without spaces have no words to measure.
        lambda facts, options: (
            _has_plain_text(facts) and facts["language"] not in _SPACELESS and not 3 <= facts["word_chars"] <= 10
        ),
        "words have {word_chars:.1f} characters on average (3 to 10)",
    ),
    _above("symbols", "symbols", 0.1, "number signs and ellipses: SHARE of the number of words"),  # Gopher
    _above("ellipsis lines", "ellipsis_lines", 0.3, "SHARE of the lines end in an ellipsis"),  # Gopher
    _above("bullet lines", "bullet_lines", 0.9, "SHARE of the lines are list items"),  # Gopher
    # C4 drops a page for one brace or one line with "javascript"; pages about programs must pass here.
    _above("script in the text", "script_chars", 0.3, "SHARE of the text reads like a script or style sheet"),
    # In place of Llama 3's divergence of tokens, which needs the whole corpus: words that no language has.
    _above("outlier words", "outlier_chars", 0.2, "SHARE of the text is encoded data"),
    _above("duplicate lines", "duplicate_lines", 0.30, "SHARE of the lines repeat an earlier one"),
    _above("duplicate lines", "duplicate_line_chars", 0.20, "SHARE of the characters are in repeated lines"),
    _above("duplicate paragraphs", "duplicate_paragraphs", 0.30, "SHARE of the paragraphs repeat an earlier one"),
    _above(
        "duplicate paragraphs", "duplicate_paragraph_chars", 0.20, "SHARE of the characters are in repeated paragraphs"
    ),
    _above("frequent phrase", "top_2", 0.20, "one phrase of 2 words makes SHARE of the text"),
    _above("frequent phrase", "top_3", 0.18, "one phrase of 3 words makes SHARE of the text"),
    _above("frequent phrase", "top_4", 0.16, "one phrase of 4 words makes SHARE of the text"),
    *(
        _above(
            "duplicate n-grams",
            f"duplicate_{size}",
            REFERENCE_ALLOWANCE * limit,
            f"repeated passages of {size} words make SHARE of the text",
        )
        for size, limit in GOPHER_DUPLICATES.items()
    ),
    Rule(
        "few stop words",
        lambda facts, options: _has_plain_text(facts) and facts["stop_words"] < 2,  # Gopher
        "{stop_words:.0f} of the most frequent words of the language (at least 2)",
    ),
    Rule(
        "language unclear",
        # Programs look like no language, and their comments are in one all the same.
        lambda facts, options: facts["language_score"] < options.min_language_score and not _is_mostly_code(facts),
        "{language} with a probability of {language_score:.2f} (at least {options.min_language_score:.2f})",
    ),
    Rule(
        "language not wanted",
        lambda facts, options: bool(options.languages) and facts["language"] not in options.languages,
        "the language is {language}",
    ),
)


def judge(language: str, language_score: float, features: Features, options: FilterOptions) -> tuple[str, str] | None:
    """The first rule that a document breaks and the reason with its numbers, or None for a document to keep.

    Args:
        features: of `extract` and `measure` together.
    """
    facts: Facts = {**features, "language": language, "language_score": language_score}
    for rule in RULES if options.enabled else RULES[:1]:  # without text there is no document
        if rule.name not in options.off and rule.broken(facts, options):
            return rule.name, rule.reason.format(**facts, options=options)
    return None


def _words(text: str, language: str) -> list[str]:
    return list("".join(text.split())) if language in _SPACELESS else text.split()
