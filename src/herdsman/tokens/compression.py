"""How well a vocabulary fits a text, and what its tokens look like."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from herdsman.progress import Progress
from herdsman.tokens.tokenizer import Tokenizer, readable
from herdsman.tokens.vocabulary import Ranks, last_merge

MEASURED_BYTES = 50_000_000
SHOWN_TOKENS, SHOWN_CHARACTERS = 20, 400


def compression_table(tokenizer: Tokenizer, rows: Iterable[dict[str, Any]], progress: Progress) -> dict[str, Any]:
    """Bytes and characters a token, over all texts, by category and by language.

    Args:
        rows: documents with text, category and language; the first 50 MB of them are measured.
    """
    sums: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    measured = 0
    with progress.task("measure compression", unit="documents") as task:
        for row in rows:
            if measured >= MEASURED_BYTES:
                break
            text = row["text"]
            sizes = {
                "documents": 1,
                "bytes": len(text.encode()),
                "characters": len(text),
                "tokens": len(tokenizer.encode(text)),
            }
            for group in (("all", ""), ("category", row["category"]), ("language", row["language"])):
                sums[group].update(sizes)
            measured += sizes["bytes"]
            task.advance()
    return {
        "held_out": _rates(sums["all", ""]),
        "by_category": [{"category": name, **_rates(s)} for (by, name), s in _largest(sums) if by == "category"],
        "by_language": [{"language": name, **_rates(s)} for (by, name), s in _largest(sums) if by == "language"],
    }


def _largest(sums: dict[tuple[str, str], Counter[str]]) -> list[tuple[tuple[str, str], Counter[str]]]:
    return sorted(sums.items(), key=lambda item: (-item[1]["bytes"], item[0]))


def _rates(sizes: Counter[str]) -> dict[str, Any]:
    tokens = sizes["tokens"]
    return {
        **{name: sizes[name] for name in ("documents", "bytes", "characters", "tokens")},
        "bytes_per_token": round(sizes["bytes"] / tokens, 4) if tokens else None,
        "characters_per_token": round(sizes["characters"] / tokens, 4) if tokens else None,
    }


def token_gallery(tokenizer: Tokenizer, ranks: Ranks, text: str) -> dict[str, Any]:
    """Longest tokens, first and last merges, and a text split into tokens."""
    longest = sorted(ranks, key=lambda token: (-len(token), ranks[token]))
    words = [token for token in longest if _letters(token).isalpha()]
    merges = sorted((token for token in ranks if len(token) > 1), key=lambda token: ranks[token])
    opening = text[:SHOWN_CHARACTERS]
    return {
        "longest_tokens": [readable(token) for token in longest[:SHOWN_TOKENS]],
        "longest_words": [readable(token) for token in words[:SHOWN_TOKENS]],
        "first_merges": [_merge(token, ranks) for token in merges[:SHOWN_TOKENS]],
        "last_merges": [_merge(token, ranks) for token in merges[-SHOWN_TOKENS:]],
        "example": [readable(tokenizer.decode_bytes([id])) for id in tokenizer.encode(opening)],
    }


def _letters(token: bytes) -> str:
    return token.decode("utf-8", errors="replace").strip()


def _merge(token: bytes, ranks: Ranks) -> dict[str, str]:
    left, right = last_merge(token, ranks)
    return {"left": readable(left), "right": readable(right), "token": readable(token)}
