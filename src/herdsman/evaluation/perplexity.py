"""Bits per byte: how well a model predicts text it has not seen, in a unit that no tokenizer can flatter.

A document is cut into windows that do not overlap. Each is read after the begin-of-text token and nothing else, and
holds as many tokens as the context, so that every token of the document, and with it every byte, is predicted exactly
once. The first tokens of a window have little before them: the figure is an upper bound of what the model could reach
with a sliding window, and comparable between models of the same context length.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from herdsman.evaluation.benchmarks import stable_hash
from herdsman.generation.engine import Engine
from herdsman.tokens.tokenizer import Tokenizer

MAX_DOCUMENT_BYTES = 32_768  # of a longer document only the beginning counts, so that no single one decides the result
WINDOWS_AT_ONCE = 64


@dataclass(frozen=True)
class HeldOut:
    """A held-out document, or the beginning of a long one."""

    id: str
    category: str
    text: str

    @property
    def size(self) -> int:
        """Bytes of UTF-8."""
        return len(self.text.encode())


@dataclass(frozen=True)
class Surprise:
    """What a model made of one document.

    Attributes:
        bytes: length of the text in UTF-8.
        nats: its summed negative log-likelihood, natural logarithm.
        tokens: how many tokens were predicted.
    """

    id: str
    category: str
    bytes: int
    nats: float
    tokens: int


def choose_held_out(documents: Iterable[dict[str, str]], limit_bytes: int) -> list[HeldOut]:
    """Documents in the order of a hash of their ids until `limit_bytes` are reached: the same ones in every run.

    Args:
        documents: rows with id, category and text.
    """
    last_first: list[tuple[int, int, HeldOut]] = []  # a heap, so that memory holds no more than what may be chosen
    size = 0
    for number, row in enumerate(documents):
        if not row["text"]:
            continue
        document = HeldOut(row["id"], row["category"], beginning(row["text"]))
        heapq.heappush(last_first, (-int(stable_hash(document.id), 16), number, document))
        size += document.size
        while size - last_first[0][2].size >= limit_bytes:
            size -= heapq.heappop(last_first)[2].size
    return [document for _, _, document in sorted(last_first, reverse=True)]


def beginning(text: str, limit_bytes: int = MAX_DOCUMENT_BYTES) -> str:
    """The longest beginning of the text that fits into `limit_bytes` of UTF-8 and ends between two characters."""
    return text.encode()[:limit_bytes].decode(errors="ignore")


def windows(ids: list[int], bos: int, context_length: int) -> list[tuple[list[int], list[int]]]:
    """(context, continuation) pairs that predict each id once, reading at most `context_length` tokens at a time.

    The last token of a window is predicted but not read, so `context_length` tokens fit behind the begin-of-text.
    """
    return [([bos], ids[start : start + context_length]) for start in range(0, len(ids), context_length)]


def surprise(
    engine: Engine,
    tokenizer: Tokenizer,
    documents: list[HeldOut],
    on_bytes: Callable[[int], None] = lambda size: None,
) -> list[Surprise]:
    """Scores each document with the model, in windows of its context length.

    Args:
        on_bytes: told the size of each document that is done.
    """
    result: list[Surprise] = []
    waiting: list[tuple[HeldOut, list[tuple[list[int], list[int]]]]] = []

    def score_waiting() -> None:
        scores = iter(engine.score([window for _, cut in waiting for window in cut]))
        for document, cut in waiting:
            nats = -sum(next(scores).logprob for _ in cut)
            tokens = sum(len(continuation) for _, continuation in cut)
            result.append(Surprise(document.id, document.category, document.size, nats, tokens))
            on_bytes(document.size)
        waiting.clear()

    for document in documents:
        waiting.append((document, windows(tokenizer.encode(document.text), tokenizer.bos, engine.context_length)))
        if sum(len(cut) for _, cut in waiting) >= WINDOWS_AT_ONCE:
            score_waiting()
    if waiting:
        score_waiting()
    return result
