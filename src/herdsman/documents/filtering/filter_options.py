"""Options of what happens to each page by itself: which documents pass, and whether private data is masked."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from herdsman.options import Options

# Names of the rules in `filters`, in their order, except "no text", which nothing can switch off.
FILTERS = (
    "adult address", "undecodable", "too short", "too long", "link list", "few letters",
    "odd word length", "symbols", "ellipsis lines", "bullet lines", "few sentences", "unfinished lines", "short lines",
    "script in the text", "policy lines", "placeholder text", "outlier words", "dirty words", "private data",
    "duplicate lines", "duplicate paragraphs", "frequent phrase", "duplicate n-grams", "few stop words",
    "language unclear", "language not wanted",
)  # fmt: skip

Share = Annotated[float, Field(ge=0, le=1)]


def _limit(default: float, description: str) -> float:
    value: float = Field(default, description=description)
    return value


class FilterOptions(Options):
    """`[documents.filters]` of the recipe. Shares are of what is neither code nor table, unless said otherwise."""

    enabled: bool = Field(
        default=True,
        description="Judge documents by block lists and heuristic filters; false keeps all that have text.",
    )
    off: tuple[str, ...] = Field(
        default=(), description='Names of single filters that are not applied, such as "few stop words".'
    )
    languages: tuple[str, ...] = Field(
        default=(),
        description='Languages to keep, as ISO 639 codes ("en", "de"); empty keeps all 176 that are told apart.',
    )
    block_lists: tuple[str, ...] = Field(
        default=("ut1",),
        description='Lists of domains and addresses whose pages are dropped: "ut1" (4.5 million, mostly adult; '
        "fetched once), files with one a line, or folders of UT1 with `domains` and `urls`, such as `lists/gambling`.",
    )
    allow_list: tuple[str, ...] = Field(default=(), description="Domains that no block list touches.")
    max_adult_url_words: int = Field(
        default=1, ge=0, description="Words of adult sites in an address that a page may have (RefinedWeb: 1)."
    )
    min_language_score: Share = _limit(
        0.4, "Probability of the most likely language below which a text counts as none."
    )
    min_words: int = Field(default=50, ge=0, description="Words below which a document is too short (Gopher: 50).")
    max_words: int = Field(
        default=1_000_000, ge=1, description="Words above which a document is too long (Gopher: 100,000)."
    )
    min_sentences: int = Field(
        default=3, ge=0, description="Ends of sentences below which a page of prose is none (C4: 3)."
    )
    max_undecodable: Share = _limit(
        0.01, "Share of a page's bytes or a text's characters that are no characters (ours)."
    )
    max_link_share: Share = _limit(0.6, "Share of a text's characters in links (ours).")
    min_lettered_words: Share = _limit(0.8, "Share of the words that have a letter (Gopher: 0.8).")
    min_word_chars: float = Field(default=3, ge=0, description="Characters of a word on average (Gopher: 3).")
    max_word_chars: float = Field(default=10, ge=0, description="Characters of a word on average (Gopher: 10).")
    max_symbols: float = Field(default=0.1, ge=0, description="Number signs and ellipses per word (Gopher: 0.1).")
    max_ellipsis_lines: Share = _limit(0.3, "Share of the lines that end in an ellipsis (Gopher: 0.3).")
    max_bullet_lines: Share = _limit(0.9, "Share of the lines that are list items (Gopher: 0.9).")
    min_finished_lines: Share = _limit(0.12, "Share of the lines of prose that end in punctuation (FineWeb: 0.12).")
    max_short_lines: Share = _limit(0.67, "Share of the lines of prose with under 30 characters (FineWeb: 0.67).")
    max_script_chars: Share = _limit(0.3, "Share of the characters in lines that read like a program (after C4).")
    max_policy_lines: Share = _limit(0.3, "Share of the lines about cookies or terms of use (after C4).")
    max_placeholder_lines: Share = _limit(0.05, "Occurrences of lorem ipsum per line (after C4, which allows none).")
    max_outlier_chars: Share = _limit(0.2, "Share of the characters in words that no language has (ours).")
    max_divergence: float = Field(
        default=1.3,
        ge=0,
        description="Divergence of a text's words from those of its language, in nats (ours).",
    )
    max_dirty_share: Share = _limit(
        0.01, "Share of dirty words above which three different ones drop a document (after C4, which allows none)."
    )
    max_private: float = Field(
        default=40, ge=0, description="Pieces of private data in 1,000 words above which ten drop a document (ours)."
    )
    max_domain_private: float = Field(
        default=20, ge=0, description="Pieces of private data in 1,000 words of a domain above which it goes (ours)."
    )
    max_duplicate_lines: Share = _limit(0.30, "Share of the lines that repeat an earlier one (Gopher: 0.30).")
    max_duplicate_line_chars: Share = _limit(0.20, "Share of the characters in repeated lines (Gopher: 0.20).")
    max_prose_duplicate_line_chars: Share = _limit(
        0.10, "The same for prose: few rows, terms and headings, no code, no formulas (FineWeb: 0.10)."
    )
    max_duplicate_paragraphs: Share = _limit(0.30, "Share of the paragraphs that repeat an earlier one (Gopher: 0.30).")
    max_duplicate_paragraph_chars: Share = _limit(
        0.20, "Share of the characters in repeated paragraphs (Gopher: 0.20)."
    )
    max_top_2: Share = _limit(0.20, "Share of the characters in the most frequent phrase of 2 words (Gopher: 0.20).")
    max_top_3: Share = _limit(0.18, "The same of 3 words (Gopher: 0.18).")
    max_top_4: Share = _limit(0.16, "The same of 4 words (Gopher: 0.16).")
    # Gopher's limits were chosen on articles. A reference describes the same parameter of one function after another:
    # one in nine of its pages lies above them, one in sixty above their double, and logs and templates far above that.
    max_duplicate_5: Share = _limit(0.30, "Share of the characters in repeated passages of 5 words (Gopher: 0.15).")
    max_duplicate_6: Share = _limit(0.28, "The same of 6 words (Gopher: 0.14).")
    max_duplicate_7: Share = _limit(0.26, "The same of 7 words (Gopher: 0.13).")
    max_duplicate_8: Share = _limit(0.24, "The same of 8 words (Gopher: 0.12).")
    max_duplicate_9: Share = _limit(0.22, "The same of 9 words (Gopher: 0.11).")
    max_duplicate_10: Share = _limit(0.20, "The same of 10 words (Gopher: 0.10).")
    min_stop_words: int = Field(
        default=2, ge=0, description="Different ones of a language's most frequent words (Gopher: 2; 28 languages)."
    )
    mask_private: bool = Field(
        default=True,
        description="Mask e-mail and public IP addresses and phone, card, account and national identity numbers.",
    )

    @field_validator("off")
    @classmethod
    def _filters_exist(cls, off: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(off) - set(FILTERS)):
            raise ValueError(f'there is no filter "{unknown[0]}"; there are {", ".join(FILTERS)}')
        return off
