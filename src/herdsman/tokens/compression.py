"""How well a vocabulary fits a text, and what its tokens look like."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from herdsman.progress import Progress
from herdsman.tokens.tokenizer import Tokenizer, readable
from herdsman.tokens.vocabulary import Ranks, last_merge

MEASURED_BYTES, ROWS_AT_ONCE = 50_000_000, 256
SHOWN_TOKENS, SHOWN_CHARACTERS = 20, 400


def compression_table(
    tokenizer: Tokenizer, rows: Iterable[dict[str, Any]], progress: Progress, base: Tokenizer | None = None
) -> dict[str, Any]:
    """Bytes and characters a token, over all texts, by category and by language.

    Args:
        rows: documents with text, category and language; the first 50 MB of them are measured.
        base: the vocabulary before it was extended; then each figure has what it was before beside it.
    """
    sums: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    measured = 0
    unread = iter(rows)
    with progress.task("measure compression", unit="documents") as task:
        while measured < MEASURED_BYTES and (batch := list(islice(unread, ROWS_AT_ONCE))):
            texts = [row["text"] for row in batch]
            tokens = np.diff(tokenizer.encode_arrays(texts)[1]).tolist()
            before = np.diff(base.encode_arrays(texts)[1]).tolist() if base else tokens
            for row, number, number_before in zip(batch, tokens, before, strict=True):
                text = row["text"]
                sizes = {
                    "documents": 1,
                    "bytes": len(text.encode()),
                    "characters": len(text),
                    "tokens": number,
                    "base_tokens": number_before,
                }
                for group in (("all", ""), ("category", row["category"]), ("language", row["language"])):
                    sums[group].update(sizes)
                measured += sizes["bytes"]
                task.advance()
    figures = {group: _rates(sizes, base is not None) for group, sizes in _largest(sums)}
    return {
        "held_out": figures.get(("all", ""), _rates(Counter(), base is not None)),
        "by_category": [{"category": name, **rates} for (by, name), rates in figures.items() if by == "category"],
        "by_language": [{"language": name, **rates} for (by, name), rates in figures.items() if by == "language"],
    }


def _largest(sums: dict[tuple[str, str], Counter[str]]) -> list[tuple[tuple[str, str], Counter[str]]]:
    return sorted(sums.items(), key=lambda item: (-item[1]["bytes"], item[0]))


def _rates(sizes: Counter[str], extended: bool) -> dict[str, Any]:
    rates: dict[str, Any] = {name: sizes[name] for name in ("documents", "bytes", "characters", "tokens")}
    rates |= {"bytes_per_token": _ratio(sizes, "bytes", "tokens")}
    rates |= {"characters_per_token": _ratio(sizes, "characters", "tokens")}
    if extended:
        rates |= {"base_tokens": sizes["base_tokens"]}
        rates |= {"base_bytes_per_token": _ratio(sizes, "bytes", "base_tokens")}
    return rates


def _ratio(sizes: Counter[str], unit: str, tokens: str) -> float | None:
    return round(sizes[unit] / sizes[tokens], 4) if sizes[tokens] else None


def token_gallery(tokenizer: Tokenizer, ranks: Ranks, text: str) -> dict[str, Any]:
    """Longest tokens, first and last merges, and a text split into tokens."""
    longest = sorted(ranks, key=lambda token: (-len(token), ranks[token]))
    words = [token for token in longest if _letters(token).isalpha()]
    in_order = sorted(ranks, key=lambda token: ranks[token])
    opening = text[:SHOWN_CHARACTERS]
    return {
        "longest_tokens": [readable(token) for token in longest[:SHOWN_TOKENS]],
        "longest_words": [readable(token) for token in words[:SHOWN_TOKENS]],
        "first_merges": list(islice(_merges(in_order, ranks), SHOWN_TOKENS)),
        "last_merges": list(islice(_merges(reversed(in_order), ranks), SHOWN_TOKENS))[::-1],
        "example": [readable(tokenizer.decode_bytes([id])) for id in tokenizer.encode(opening)],
    }


def _letters(token: bytes) -> str:
    return token.decode("utf-8", errors="replace").strip()


def _merges(tokens: Iterable[bytes], ranks: Ranks) -> Iterator[dict[str, str]]:
    for token in tokens:
        if parts := last_merge(token, ranks):
            yield {"left": readable(parts[0]), "right": readable(parts[1]), "token": readable(token)}
