"""Chapters of the tokenizer and of the packed tokens."""

from __future__ import annotations

from collections import defaultdict

from herdsman.release import figures
from herdsman.release.blocks import Bar, Bars, Block, Fold, Table, Tokens
from herdsman.release.journey import Journey, Record

TOKENIZER_TITLE = "A vocabulary of its own"
TOKENS_TITLE = "Packing tokens"
MOST_LANGUAGES = 16


def tokenizer_lead(record: Record) -> str:
    rate = record.get("held_out.bytes_per_token")
    sentence = f"{figures.count(record.get('vocabulary.bpe_tokens', 0))} pieces of text"
    if learned_bytes := record.get("trained_on.bytes", 0):
        sentence += f", learned from {figures.size(learned_bytes)} of documents"
    if new_tokens := record.get("extension.new_tokens", 0):
        languages = len(record.get("extension.languages", []))
        sentence += f", the last {figures.count(new_tokens)} for {languages} more language{'s' * (languages != 1)}"
    return sentence + (f"; on unseen text a token stands for {rate:.2f} bytes." if rate else ".")


def tokenizer_blocks(journey: Journey) -> list[Block]:
    record = journey["tokenizer"]
    found: list[Block] = []
    example = record.get("example", [])
    if example:
        found.append(
            Tokens("A text, cut into tokens", example, "Each tint is one token, the unit in which the model reads.")
        )
    categories = [row for row in record.get("by_category", []) if row["bytes_per_token"]]
    if categories:
        items = [Bar(row["category"], row["bytes_per_token"], f"{row['bytes_per_token']:.2f}") for row in categories]
        found.append(
            Bars(
                "Bytes a token, by category",
                items,
                note="Higher is better: the same text in fewer tokens. Measured on held-out documents.",
            )
        )
    found += _languages(record)
    vocabulary = record.get("vocabulary", {})
    if vocabulary.get("bpe_tokens", 0) < vocabulary.get("asked", 0):
        items_note = f"{vocabulary['asked']:,} were asked for; the text holds no more merges."
        found.append(
            Table("", ("vocabulary", "tokens"), [("learned", figures.count(vocabulary["bpe_tokens"]))], items_note)
        )
    merges = record.get("first_merges", [])
    inside: list[Block] = [
        Tokens("Longest words", record.get("longest_words", [])),
        Tokens("Longest tokens", [repr(token)[1:-1] for token in record.get("longest_tokens", [])]),
        Tokens("First merges", [f"{merge['left']}+{merge['right']} " for merge in merges]),
        Tokens("Last merges", [f"{merge['left']}+{merge['right']} " for merge in record.get("last_merges", [])]),
    ]
    if merges:
        found.append(Fold("Inside the vocabulary", inside))
    return found


def _languages(record: Record) -> list[Block]:
    """Compression of the languages with the most text, and what it was before the vocabulary was extended."""
    rows = [row for row in record.get("by_language", []) if row["bytes_per_token"]][:MOST_LANGUAGES]
    if len(rows) < 2:
        return []
    bars = [
        Bar(
            row["language"],
            row["bytes_per_token"],
            f"{row['bytes_per_token']:.2f}",
            f"{1 - row['tokens'] / row['base_tokens']:.1%} fewer tokens" if "base_tokens" in row else "",
            target=row.get("base_bytes_per_token"),
        )
        for row in rows
    ]
    mark = "before the vocabulary was extended" if record.get("extension.new_tokens", 0) else ""
    note = "Letters of some scripts take one byte, of others two or three, so rows do not compare with each other."
    return [Bars("Bytes a token, by language", bars, note=note, mark=mark)]


def tokens_lead(record: Record) -> str:
    totals = record.get("totals", {})
    return (
        f"{figures.count(totals.get('documents', 0))} documents became {figures.count(totals.get('tokens', 0))} tokens "
        f"in {len(record.get('streams', {}))} streams; any of them leads back to its page."
    )


def tokens_blocks(journey: Journey) -> list[Block]:
    record = journey["tokens"]
    streams = sorted(record.get("streams", {}).items(), key=lambda item: -item[1]["tokens"])
    by_source: dict[str, int] = defaultdict(int)
    for row in record.get("sources", []):
        by_source[row["source"]] += row["tokens"]
    found: list[Block] = [
        Bars(
            "Streams",
            [
                Bar(
                    name,
                    sizes["tokens"],
                    f"{sizes['tokens']:,}",
                    f"{sizes['documents']:,} documents · {figures.size(sizes['bytes'])}",
                )
                for name, sizes in streams
            ],
            note="A stream is a category and a tier of quality; the mix of pretraining draws from them.",
        ),
        Bars(
            "Tokens by source",
            [
                Bar(source, number, f"{number:,}", colour="sky")
                for source, number in sorted(by_source.items(), key=lambda item: (-item[1], item[0]))
            ],
        ),
    ]
    return found
