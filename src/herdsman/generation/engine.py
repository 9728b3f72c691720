"""What every maker of text offers: the protocol that evaluation, post-training, tools and servers are written against.

Three keep it: `local.LocalEngine` (ours), `remote.RemoteEngine` (any OpenAI-compatible server) and `vllm.VLLMEngine`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from herdsman.generation.sampling import Sampling
from herdsman.tokens.foreign import ForeignTokenizer
from herdsman.tokens.tokenizer import Tokenizer

Finish = Literal["stop", "length"]
"""Why a completion ended: by a stop token, a stop string or the end of its constraint; or by its limit of tokens."""


@dataclass(frozen=True)
class TokenLogprob:
    """How likely the model found a token, before temperature, penalties and filters.

    Attributes:
        id: the token.
        logprob: natural logarithm of its probability.
        top: the likeliest tokens at its place, likeliest first, each with its log-probability.
    """

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Completion:
    """What the model wrote after a prompt, without the token that ended it.

    Attributes:
        ids: the sampled tokens, those that spell a stop string included.
        text: the same as text, up to the first stop string; invalid UTF-8 is shown as U+FFFD.
        stopped: whether it ended otherwise than by its length limit.
        finish: the same as a word.
        logprobs: of each token of `ids`, if `Sampling.logprobs` asked for them.
    """

    ids: list[int]
    text: str
    stopped: bool
    finish: Finish
    logprobs: list[TokenLogprob] | None = None


@dataclass(frozen=True)
class Piece:
    """The next part of a completion that is being written.

    Attributes:
        text: whole characters, never part of a stop string; not empty but for the last piece.
        ids: the tokens sampled since the piece before.
        logprobs: of these tokens, if asked for.
        finish: set in the last piece, and only there.
    """

    text: str
    ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish: Finish | None = None


@dataclass(frozen=True)
class Score:
    """Natural log-probability of a continuation, its tokens, and whether greedy decoding would have written it."""

    logprob: float
    tokens: int
    greedy: bool


class Engine(Protocol):
    """A model that writes and judges text.

    Attributes:
        tokenizer: turns its ids into text and back.
    """

    tokenizer: Tokenizer | ForeignTokenizer

    @property
    def context_length(self) -> int:
        """Most tokens, prompt and completion together."""
        ...

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        on_progress: Callable[[int], object] | None = None,
        rows: Sequence[int] | None = None,
    ) -> list[Completion]:
        """Completions of the prompts, in their order.

        Args:
            prompts: token ids; a completion ends at the latest where the context does.
            sampling: how tokens are drawn.
            on_progress: called with the number of completions that have just been finished.
            rows: number of each prompt's stream of random draws; its place in `prompts` if left out.

        Raises:
            InputError: a prompt is empty or leaves no room in the context.
        """
        ...

    def stream(self, prompt: Sequence[int], sampling: Sampling, row: int = 0) -> Generator[Piece, None, None]:
        """The completion of one prompt in pieces. Closing the generator ends it and frees what it holds.

        Raises:
            InputError: as `generate`.
        """
        ...

    def score(
        self,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        batch_tokens: int = 4096,
        on_progress: Callable[[int], object] | None = None,
    ) -> list[Score]:
        """Scores each continuation after its context.

        What does not fit into the model's context is cut from the context's beginning, as lm-evaluation-harness does.

        Args:
            pairs: (context ids, continuation ids); neither may be empty.
            batch_tokens: about how many tokens are computed at a time.
            on_progress: called with the number of pairs that have just been scored.

        Raises:
            InputError: a context or continuation is empty, or a continuation fills the whole context.
        """
        ...

    def prompt_logprobs(self, ids: Sequence[int], top: int = 0) -> list[TokenLogprob | None]:
        """Of each token given those before it; None for the first, which has none.

        Args:
            ids: at most `context_length` tokens.
            top: how many of the likeliest tokens to name at each place.

        Raises:
            InputError: there is no token, or more than the context holds.
        """
        ...
