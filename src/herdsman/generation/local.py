"""Our own engine: one model in this process, driven by the thread that asks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from threading import Lock

import torch

from herdsman.errors import InputError
from herdsman.generation.cache import PagedCache, block_bytes, blocks_for
from herdsman.generation.engine import Completion, Piece, Score, TokenLogprob
from herdsman.generation.request import Deliver, Request
from herdsman.generation.runner import TorchRunner, Weights, make_runner
from herdsman.generation.sampling import Sampling
from herdsman.generation.scheduler import Scheduler
from herdsman.generation.scoring import score_continuations
from herdsman.model.llama import Llama
from herdsman.tokens.foreign import ForeignTokenizer
from herdsman.tokens.tokenizer import Tokenizer

CACHE_BYTES = 256 * 2**20


class LocalEngine:
    """Generates with and scores by one model; see `engine.Engine`.

    Samples are a function of prompt, sampling, row and seed, up to rounding, whatever is generated beside them. Threads
    may share an engine: each step is one thread's, and serves all.

    Args:
        model: the decoder, used in evaluation mode. Its weights must stay as they are while the engine lives, which
            keeps what it has computed.
        tokenizer: its tokenizer.
        cache_bytes: memory for keys and values; if left out, `CACHE_BYTES` or what one whole context takes, if that is
            more. On a CPU, memory that is not used yet costs nothing.
        weights: the form in which the weights are computed with.

    Raises:
        InputError: the memory holds not even one block.
        MachineError: this machine cannot compute with such weights.
    """

    def __init__(
        self,
        model: Llama,
        tokenizer: Tokenizer | ForeignTokenizer,
        cache_bytes: int | None = None,
        weights: Weights = "float32",
    ):
        self.tokenizer, self.options = tokenizer, model.options
        self.runner = make_runner(model.eval(), weights)
        # Scores come from the very weights that generate: from the model itself only where the runner has no others.
        exact = isinstance(self.runner, TorchRunner) and self.runner.dtype == torch.float32
        self.model = model if exact else None
        size = block_bytes(model.options, self.runner.dtype)
        least = max(CACHE_BYTES // size, blocks_for(self.context_length))
        blocks = least if cache_bytes is None else cache_bytes // size
        if not blocks:
            raise InputError(f"cache_bytes={cache_bytes} is less than the {size} of one block", do="give it more")
        self.scheduler = Scheduler(
            self.runner, PagedCache(model.options, blocks, self.runner.dtype, self.runner.device)
        )
        self._lock = Lock()

    @property
    def context_length(self) -> int:
        return self.options.context_length

    def request(
        self, prompt: Sequence[int], sampling: Sampling, row: int, deliver: Deliver, reads: int | None = None
    ) -> Request:
        """A request that this engine could be given; see `Request`."""
        return Request(prompt, sampling, row, self.tokenizer, self.context_length, deliver, reads)

    def add(self, requests: Sequence[Request]) -> None:
        """Takes all of them or, if it raises, none.

        Raises:
            InputError: the memory could not hold one of them even alone.
        """
        with self._lock:
            for request in requests:
                self.scheduler.check(request)
            for request in requests:
                self.scheduler.add(request)

    def cancel(self, requests: Sequence[Request]) -> None:
        """Forgets those of the requests that have not ended."""
        with self._lock:
            for request in requests:
                self.scheduler.cancel(request)

    def step(self, until: Callable[[], bool] = lambda: False) -> None:
        """Computes one step for all requests and delivers its pieces, unless `until` holds when it is this thread's
        turn."""
        with self._lock:
            if not until():
                for request, piece in self.scheduler.step():
                    request.deliver(piece)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        on_progress: Callable[[int], object] | None = None,
        rows: Sequence[int] | None = None,
    ) -> list[Completion]:
        pieces: list[list[Piece]] = [[] for _ in prompts]
        numbers = range(len(prompts)) if rows is None else rows
        requests = [
            self.request(prompt, sampling, number, found.append)
            for prompt, number, found in zip(prompts, numbers, pieces, strict=True)
        ]
        self._run(requests, on_progress)
        return list(map(_joined, pieces))

    def stream(self, prompt: Sequence[int], sampling: Sampling, row: int = 0) -> Generator[Piece, None, None]:
        pieces: deque[Piece] = deque()
        request = self.request(prompt, sampling, row, pieces.append)
        self.add([request])
        try:
            while request.finish is None or pieces:
                while pieces:
                    yield pieces.popleft()
                self.step(until=lambda: bool(pieces or request.finish))
        finally:
            self.cancel([request])

    def score(
        self,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        batch_tokens: int = 4096,
        on_progress: Callable[[int], object] | None = None,
    ) -> list[Score]:
        joined = [self._fitted(context, continuation) for context, continuation in pairs]
        if self.model is not None:
            return score_continuations(self.model, joined, batch_tokens, on_progress)
        requests = self._read([[*context, *continuation] for context, continuation in joined], 1, on_progress)
        return [_score(request, len(continuation)) for request, (_, continuation) in zip(requests, joined, strict=True)]

    def prompt_logprobs(self, ids: Sequence[int], top: int = 0) -> list[TokenLogprob | None]:
        if not 1 <= len(ids) <= self.context_length:
            raise InputError(f"{len(ids)} tokens cannot be read with a context of {self.context_length}")
        return self._read([ids], top, None)[0].prompt_logprobs if len(ids) > 1 else [None]

    def _read(
        self, prompts: Sequence[Sequence[int]], top: int, on_progress: Callable[[int], object] | None
    ) -> list[Request]:
        requests = [self.request(ids, Sampling(), 0, lambda piece: None, reads=top) for ids in prompts]
        self._run(requests, on_progress)
        return requests

    def _run(self, requests: Sequence[Request], on_progress: Callable[[int], object] | None) -> None:
        self.add(requests)
        done = 0
        try:
            while done < len(requests):
                self.step(until=lambda: all(request.finish for request in requests))
                finished = sum(request.finish is not None for request in requests)
                if on_progress and finished > done:
                    on_progress(finished - done)
                done = finished
        finally:
            self.cancel([request for request in requests if not request.finish])

    def _fitted(self, context: Sequence[int], continuation: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        if not context or not continuation:
            raise InputError("a scored pair needs at least one token of context and one of continuation")
        if len(continuation) > self.context_length:
            raise InputError(
                f"a continuation of {len(continuation)} tokens exceeds the context of {self.context_length}"
            )
        # The last token is not read, so one more than the context holds can be scored.
        return context[-(self.context_length + 1 - len(continuation)) :], continuation


def _joined(pieces: Sequence[Piece]) -> Completion:
    finish = pieces[-1].finish
    assert finish is not None
    ids = [id for piece in pieces for id in piece.ids]
    logprobs = None if pieces[-1].logprobs is None else [each for piece in pieces for each in piece.logprobs or ()]
    return Completion(ids, "".join(piece.text for piece in pieces), finish == "stop", finish, logprobs)


def _score(request: Request, count: int) -> Score:
    found = [logprob for logprob in request.prompt_logprobs[-count:] if logprob is not None]
    greedy = all(logprob.top[0][0] == logprob.id for logprob in found)
    return Score(sum(logprob.logprob for logprob in found), count, greedy)
