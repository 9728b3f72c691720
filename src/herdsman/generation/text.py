"""Bytes of tokens to text that can be shown: whole characters, and nothing that may yet become a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from herdsman.errors import InputError
from herdsman.tokens.foreign import ForeignTokenizer
from herdsman.tokens.tokenizer import Tokenizer


def token_bytes(tokenizer: Tokenizer | ForeignTokenizer, id: int) -> bytes:
    """Bytes of a token; none if it has no place in the vocabulary. Vocabularies from elsewhere have holes, and models
    more rows than their vocabulary has tokens: what they write there must not stop anyone."""
    try:
        return tokenizer.decode_bytes([id])
    except InputError:
        return b""


class TextStream:
    """Follows the text of one completion.

    Args:
        stop: strings of which none may appear; the text ends before the first of them.

    Attributes:
        stopped: whether one has come.
    """

    def __init__(self, stop: Sequence[str] = ()):
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop, self._held = stop, ""
        self.stopped = False

    def feed(self, data: bytes) -> str:
        """Takes the bytes of a token and returns the text that is certain now."""
        return self._release(self._decoder.decode(data))

    def finish(self) -> str:
        """The rest, when no more tokens come: a character that was cut off becomes U+FFFD."""
        rest = self._release(self._decoder.decode(b"", final=True))
        held, self._held = self._held, ""
        return rest if self.stopped else rest + held

    def _release(self, text: str) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        ends = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)]
        kept = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest beginning of `stop` that `text` ends with."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
