"""One completion on its way: what was asked for, what has been written, and what of the cache it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from herdsman.errors import InputError
from herdsman.generation.cache import BLOCK_TOKENS, Key, blocks_for
from herdsman.generation.choosing import Row
from herdsman.generation.constraint import Matcher
from herdsman.generation.engine import Finish, Piece, TokenLogprob
from herdsman.generation.sampling import Sampling
from herdsman.generation.text import TextStream, token_bytes
from herdsman.tokens.foreign import ForeignTokenizer
from herdsman.tokens.tokenizer import Tokenizer

Deliver = Callable[[Piece], object]


class Request:
    """A prompt and its completion.

    Args:
        prompt: token ids.
        sampling: how tokens are drawn.
        row: number of its stream of random draws.
        tokenizer: of the model.
        context_length: of the model.
        deliver: is given each piece, the moment it is known.
        reads: how many likeliest tokens to name at each place of the prompt. The log-probabilities of the prompt are
            then all that is wanted and nothing is written; None to write. Such a prompt has at least two tokens.

    Attributes:
        ids: prompt and completion so far.
        cached: how many of `ids` are in the cache.
        blocks: the cache's, in order, for all of `ids` while the request runs and none while it waits.
        content: number of the content of its full blocks so far, `remembered` of them; see `PagedCache.remember`.
        finish: why it ended; None before.
        prompt_logprobs: what a reading request is for.

    Raises:
        InputError: the prompt is empty or does not fit, or the constraint cannot be understood.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        row: int,
        tokenizer: Tokenizer | ForeignTokenizer,
        context_length: int,
        deliver: Deliver,
        reads: int | None = None,
    ):
        if not prompt:
            raise InputError("a prompt needs at least one token")
        if reads is None and len(prompt) >= context_length:
            raise InputError(f"a prompt of {len(prompt)} tokens leaves no room in the context of {context_length}")
        if reads is not None and not 2 <= len(prompt) <= context_length + 1:
            raise InputError(f"{len(prompt)} tokens to read do not fit into the context of {context_length}")
        _check_ids(prompt, tokenizer.vocab_size, "the prompt has")
        _check_ids(sampling.logit_bias, tokenizer.vocab_size, "the logit bias names")
        self.prompt_tokens, self.ids, self.tokenizer = len(prompt), list(prompt), tokenizer
        self.limit = min(sampling.max_new_tokens, context_length - len(prompt)) if reads is None else 0
        self.stop_ids = tokenizer.stop_ids if sampling.stop_ids is None else sampling.stop_ids
        form = sampling.constraint
        if form:  # A form that may go on ends by a token of the tokenizer's, if no others are named.
            self.stop_ids = self.stop_ids or tokenizer.stop_ids
        self.row = Row(sampling, row, prompt, Matcher(form, tokenizer, self.stop_ids) if form else None)
        self.deliver, self.reads = deliver, reads
        self.cached, self.content, self.remembered = 0, 0, 0
        self.blocks: list[int] = []
        self.finish: Finish | None = None
        self.prompt_logprobs: list[TokenLogprob | None] = [None]
        self._text = TextStream(sampling.stop)
        self._waiting_ids: list[int] = []
        self._waiting_logprobs: list[TokenLogprob] = []

    @property
    def computable(self) -> int:
        """Tokens that have to be computed; of one that reads, nothing follows the last."""
        return len(self.ids) - (self.reads is not None)

    @property
    def left(self) -> int:
        """Tokens to compute before the next one can be drawn."""
        return self.computable - self.cached

    @property
    def most_blocks(self) -> int:
        """The most it will ever hold; the last token drawn is not computed."""
        return blocks_for(self.prompt_tokens + max(0, self.limit - 1))

    @property
    def next_key(self) -> Key | None:
        """What its first block that is not remembered will hold, if `ids` fill it."""
        start = self.remembered * BLOCK_TOKENS
        tokens = tuple(self.ids[start : start + BLOCK_TOKENS])
        return (self.content, tokens) if len(tokens) == BLOCK_TOKENS else None

    def forget(self) -> list[int]:
        """Gives its blocks up, to compute everything again; returns them."""
        blocks, self.blocks = self.blocks, []
        self.cached, self.content, self.remembered = 0, 0, 0
        return blocks

    def accept(self, token: int, logprob: TokenLogprob | None) -> Piece | None:
        """Takes the token that was drawn; the next piece, if text is certain by it or the completion ends."""
        text = ""
        if token in self.stop_ids:
            self.finish = "stop"
        else:
            self.ids.append(token)
            self.row.accept(token)
            self._waiting_ids.append(token)
            if logprob is not None:
                self._waiting_logprobs.append(logprob)
            text = self._text.feed(token_bytes(self.tokenizer, token))
            if self._text.stopped or (self.row.matcher and self.row.matcher.is_over):
                self.finish = "stop"
            elif len(self.ids) - self.prompt_tokens >= self.limit:
                self.finish = "length"
        if self.finish:
            text += self._text.finish()
        if not text and not self.finish:
            return None
        ids, logprobs = tuple(self._waiting_ids), tuple(self._waiting_logprobs)
        self._waiting_ids, self._waiting_logprobs = [], []
        return Piece(text, ids, None if self.row.sampling.logprobs is None else logprobs, self.finish)

    def end_reading(self) -> Piece:
        """The only piece of a reading request."""
        self.finish = "length"
        return Piece("", (), None, self.finish)


def _check_ids(ids: Iterable[int], vocab_size: int, what: str) -> None:
    wrong = next((id for id in ids if not 0 <= id < vocab_size), None)
    if wrong is not None:
        raise InputError(f"{what} the id {wrong}, which is not in the vocabulary of {vocab_size} ids")
