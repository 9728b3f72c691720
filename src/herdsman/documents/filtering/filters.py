"""Heuristic filters: what a document's text alone says against it (Llama 3, section 3.1.1, heuristic filtering).

Llama 3 names its filters and not their thresholds. Those here are published ones: Gopher's for repetition and quality
(Rae et al. 2021, appendix A.1, tables A1 and A2), C4's (Raffel et al. 2020, section 2.2) and FineWeb's (Penedo et al.
2024, section 3.4). A rule is one row of a table: a measure, a limit that stands in the recipe, and where it holds, so
that what another limit would do can be told from stored measures alone. Repetition is measured on everything but code
and tables, where it is no fault.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from herdsman.documents.filtering.filter_options import FilterOptions
from herdsman.documents.filtering.measures import EXTRACTED, MEASURED

Facts = Mapping[str, Any]

FEATURES = (*EXTRACTED, *MEASURED, "adult_url_words", "masked", "private")
"""Every number about a document that rules may look at; one that was not measured is left out, or None."""
FEW_WORDS = 30  # outside code and tables, below which shares of them say nothing
FEW_LINES = 10  # of prose, below which shares of them say nothing
FEW_DIRTY_WORDS = 3  # different ones: a word or two may be quoted
FEW_MASKED = 10  # pieces of private data below which a text is no list of people
GOPHER, C4, FINEWEB, OURS = "Gopher", "C4", "FineWeb", "ours"


@dataclass(frozen=True)
class Rule:
    """A reason to drop a document.

    Attributes:
        feature: one of `FEATURES`, "language" or "language_score". A document without it does not break the rule.
        limit: name of the option that holds the limit; "" for a fixed limit of 1.
        above: true if documents above the limit are dropped, else those below it.
        reason: a sentence for people; a format string over the facts and `limit`.
        source: where the rule is published.
        applies: whether the rule says anything about a document with these facts.
    """

    name: str
    feature: str
    limit: str
    above: bool
    reason: str
    source: str
    applies: Callable[[Facts], bool] = lambda facts: True

    def limit_in(self, options: FilterOptions) -> Any:
        return getattr(options, self.limit) if self.limit else 1

    def broken(self, facts: Facts, options: FilterOptions) -> bool:
        value, limit = facts.get(self.feature), self.limit_in(options)
        if value is None:
            return False
        if isinstance(limit, tuple):
            return bool(limit) and value not in limit
        return bool(value > limit if self.above else value < limit) and self.applies(facts)


def _has_plain_text(facts: Facts) -> bool:
    return bool(facts["plain_words"] >= FEW_WORDS)


def _has_spaces(facts: Facts) -> bool:
    return _has_plain_text(facts) and not facts["spaceless"]


def _is_prose(facts: Facts) -> bool:
    """True for text that wants to be read in sentences: no page of code, tables, terms or formulas, no short note."""
    blocks = max(facts["blocks"], 1)
    listed = facts["rows"] + facts["terms"] + facts["headings"]
    return bool(
        _has_spaces(facts)
        and facts["code_share"] < 0.2
        and listed < 0.2 * blocks
        and facts["formulas"] == 0
        and blocks >= FEW_LINES
    )


def _above(
    name: str, feature: str, limit: str, source: str, said: str, applies: Callable[[Facts], bool] = _has_plain_text
) -> Rule:
    """A rule that a share must not exceed a limit."""
    return Rule(name, feature, limit, True, f"{said} (limit {{limit:.0%}})".replace("SHARE", f"{{{feature}:.0%}}"),
                source, applies)  # fmt: skip


# The order is that of the reports: the first rule that a document breaks names why it was dropped.
RULES: tuple[Rule, ...] = (
    Rule("no text", "words", "", False, "nothing is left of the page without navigation", OURS),
    Rule(
        "adult address", "adult_url_words", "max_adult_url_words", True,
        "{adult_url_words:.0f} words of adult sites in the address (at most {limit})", "RefinedWeb",
    ),
    Rule("undecodable", "undecodable", "max_undecodable", True,
         "{undecodable:.1%} of the page are no characters (limit {limit:.1%})", OURS),
    Rule("undecodable", "noise", "max_undecodable", True,
         "{noise:.1%} of the text are no characters (limit {limit:.1%})", OURS),
    Rule("too short", "words", "min_words", False, "{words:,.0f} words (at least {limit:,})", GOPHER),
    Rule("too long", "words", "max_words", True, "{words:,.0f} words (at most {limit:,})", GOPHER),
    Rule("link list", "link_share", "max_link_share", True,
         "links make {link_share:.0%} of the characters (limit {limit:.0%})", OURS),
    Rule("few letters", "lettered_words", "min_lettered_words", False,
         "{lettered_words:.0%} of the words have a letter (at least {limit:.0%})", GOPHER, _has_plain_text),
    Rule("odd word length", "word_chars", "min_word_chars", False,
         "words have {word_chars:.1f} characters on average (at least {limit:g})", GOPHER, _has_spaces),
    Rule("odd word length", "word_chars", "max_word_chars", True,
         "words have {word_chars:.1f} characters on average (at most {limit:g})", GOPHER, _has_spaces),
    _above("symbols", "symbols", "max_symbols", GOPHER, "number signs and ellipses: SHARE of the number of words"),
    _above("ellipsis lines", "ellipsis_lines", "max_ellipsis_lines", GOPHER, "SHARE of the lines end in an ellipsis"),
    _above("bullet lines", "bullet_lines", "max_bullet_lines", GOPHER, "SHARE of the lines are list items"),
    Rule(
        "few sentences", "sentences", "min_sentences", False, "{sentences:.0f} ends of sentences (at least {limit})",
        C4, _is_prose,
    ),
    Rule(
        "unfinished lines", "finished_lines", "min_finished_lines", False,
        "{finished_lines:.0%} of the lines of prose end in punctuation (at least {limit:.0%})", FINEWEB, _is_prose,
    ),
    _above("short lines", "short_lines", "max_short_lines", FINEWEB,
           "SHARE of the lines of prose have under 30 characters", _is_prose),
    # C4 drops a page for one brace or one line with "javascript"; pages about programs must pass here.
    _above("script in the text", "script_chars", "max_script_chars", C4,
           "SHARE of the text reads like a script or style sheet"),
    _above("policy lines", "policy_lines", "max_policy_lines", C4, "SHARE of the lines are about cookies or terms"),
    _above("placeholder text", "placeholder_lines", "max_placeholder_lines", C4, "SHARE of the lines have lorem ipsum"),
    # Words that no language has; `outliers` compares all words with the corpus.
    _above("outlier words", "outlier_chars", "max_outlier_chars", OURS, "SHARE of the text is encoded data"),
    Rule(
        "dirty words", "dirty_share", "max_dirty_share", True,
        "{dirty_words:.0f} different dirty words, {dirty_share:.1%} of the text (limit {limit:.1%})", C4,
        lambda facts: bool(facts["dirty_words"] >= FEW_DIRTY_WORDS),
    ),
    Rule(
        "private data", "private", "max_private", True,
        "{masked:.0f} pieces of private data, {private:.0f} in 1,000 words (at most {limit:g})", OURS,
        lambda facts: bool(facts["masked"] >= FEW_MASKED),
    ),
    _above("duplicate lines", "duplicate_lines", "max_duplicate_lines", GOPHER,
           "SHARE of the lines repeat an earlier one"),
    _above("duplicate lines", "duplicate_line_chars", "max_duplicate_line_chars", GOPHER,
           "SHARE of the characters are in repeated lines"),
    _above("duplicate lines", "duplicate_line_chars", "max_prose_duplicate_line_chars", FINEWEB,
           "SHARE of the characters of prose are in repeated lines", _is_prose),
    _above("duplicate paragraphs", "duplicate_paragraphs", "max_duplicate_paragraphs", GOPHER,
           "SHARE of the paragraphs repeat an earlier one"),
    _above("duplicate paragraphs", "duplicate_paragraph_chars", "max_duplicate_paragraph_chars", GOPHER,
           "SHARE of the characters are in repeated paragraphs"),
    *(
        _above("frequent phrase", f"top_{size}", f"max_top_{size}", GOPHER,
               f"one phrase of {size} words makes SHARE of the text")
        for size in (2, 3, 4)
    ),
    *(
        _above("duplicate n-grams", f"duplicate_{size}", f"max_duplicate_{size}", GOPHER,
               f"repeated passages of {size} words make SHARE of the text")
        for size in range(5, 11)
    ),
    Rule("few stop words", "stop_words", "min_stop_words", False,
         "{stop_words:.0f} of the most frequent words of the language (at least {limit})", GOPHER, _has_plain_text),
    Rule(
        "language unclear", "language_score", "min_language_score", False,
        "{language} with a probability of {language_score:.2f} (at least {limit:.2f})", OURS,
        # Programs look like no language, and their comments are in one all the same.
        lambda facts: bool(facts["code_share"] <= 0.5),
    ),
    Rule("language not wanted", "language", "languages", False, "the language is {language}", OURS),
)  # fmt: skip


def first_broken(facts: Facts, options: FilterOptions) -> tuple[str, str] | None:
    """The first rule that a document breaks and the reason with its numbers, or None for a document to keep.

    Args:
        facts: the features that were measured, "language" and "language_score".
    """
    for rule in RULES if options.enabled else RULES[:1]:  # without text there is no document
        if rule.name not in options.off and rule.broken(facts, options):
            return rule.name, rule.reason.format(**facts, limit=rule.limit_in(options))
    return None
