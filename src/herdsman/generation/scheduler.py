"""Who computes what in each step: continuous batching over a paged cache. It knows no threads and no clock.

A request is admitted as soon as its tokens so far fit, not when its longest possible completion would: most
completions end long before their limit, and memory kept for them would idle. If memory runs out, the request that came
last gives its blocks up and waits in front; when it comes back its tokens are computed again, often from blocks that
still stand, and it goes on with the same draws. The oldest always goes on, and any request fits alone, so all end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from herdsman.errors import InputError
from herdsman.generation.cache import BLOCK_TOKENS, PagedCache, blocks_for
from herdsman.generation.choosing import choose, likelihoods
from herdsman.generation.engine import Piece
from herdsman.generation.request import Request
from herdsman.generation.runner import Runner, Step

ROWS = 192
"""Requests that run at the same time."""

PREFILL_TOKENS, SHARED_PREFILL_TOKENS = 4096, 512
"""Prompt tokens of a step: while nobody decodes, and while those who do wait for it."""

LOGIT_ELEMENTS = 1 << 26
"""Logits of prompt tokens that a step may hold."""


@dataclass
class Counts:
    """Running totals.

    Attributes:
        tokens_generated: drawn.
        tokens_prefilled: of prompts, computed.
        tokens_reused: of prompts, found in the cache.
        preemptions: times that a request had to give its memory up.
        steps: of the model.
    """

    tokens_generated: int = 0
    tokens_prefilled: int = 0
    tokens_reused: int = 0
    preemptions: int = 0
    steps: int = 0


@dataclass
class Scheduler:
    """
    Args:
        runner: the model.
        cache: its memory.

    Attributes:
        waiting: requests without memory, first come first.
        running: requests with memory, in the order of their admission.
    """

    runner: Runner
    cache: PagedCache
    waiting: deque[Request] = field(default_factory=deque)
    running: list[Request] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)

    def check(self, request: Request) -> None:
        """
        Raises:
            InputError: the memory could not hold this request even alone.
        """
        if request.most_blocks > self.cache.blocks:
            raise InputError(
                f"{request.prompt_tokens} tokens of prompt and {request.limit} new ones need {request.most_blocks} "
                f"blocks of cache and there are {self.cache.blocks}",
                do="ask for fewer new tokens or give the engine more cache_bytes",
            )

    def add(self, request: Request) -> None:
        """Takes a request that `check` lets pass."""
        self.waiting.append(request)

    def cancel(self, request: Request) -> None:
        """Forgets a request, wherever it is; nothing happens if it has ended."""
        if request in self.running:
            self._release(request)
        elif request in self.waiting:
            self.waiting.remove(request)

    @torch.inference_mode()
    def step(self) -> list[tuple[Request, Piece]]:
        """Computes one step and returns the pieces that came of it; none may, while prompts are read."""
        self._admit()
        if not self.running:
            return []
        work = self._plan()
        step, wanted = self._lay_out(work)
        logits = self.runner.forward(step, self.cache)
        self.counts.steps += 1
        for request, count in work:
            request.cached += count
            self._remember(request)
        return [*self._read(logits, wanted), *self._draw(logits, wanted)]

    def _admit(self) -> None:
        """Lets requests in while there is room. One whose next block another is computing waits for it, to share it:
        of many samples of one prompt, the first computes the prompt."""
        coming = {request.next_key for request in self.running if request.left > 1}
        passed: list[Request] = []
        while self.waiting and len(self.running) < ROWS:
            request = self.waiting.popleft()
            most = (len(request.ids) - 1) // BLOCK_TOKENS if request.reads is None else 0
            blocks, content = self.cache.find(request.ids, most)
            request.content, request.remembered = content, len(blocks)
            if len(blocks) < most and request.next_key in coming:
                passed.append(request)
                continue
            need = blocks_for(request.computable) - len(blocks)
            # Those who run will soon need a block each: without it a new one would be thrown out at once.
            if need + len(self.running) > self.cache.free_among(blocks):
                self.waiting.appendleft(request)
                break
            self.cache.share(blocks)
            request.blocks = blocks + self.cache.allocate(need)
            request.cached = len(blocks) * BLOCK_TOKENS
            self.counts.tokens_reused += request.cached
            self.running.append(request)
            coming.add(request.next_key)
        self.waiting.extendleft(reversed(passed))

    def _plan(self) -> list[tuple[Request, int]]:
        """Requests and how many tokens of each to compute: those who decode first, then prompts within a budget."""
        decoding = [request for request in self.running if request.left == 1]
        for request in decoding:
            self._grow(request)
        decoding = [request for request in decoding if request.blocks]
        work = [(request, 1) for request in decoding]
        reading = [request for request in self.running if request.left > 1]
        budget = SHARED_PREFILL_TOKENS if decoding else PREFILL_TOKENS
        room = max(1, LOGIT_ELEMENTS // self.runner.vocab_size)
        # The oldest is sure of half of the budget; the rest goes to the shortest, which a long one must not stop.
        for place, request in enumerate([*reading[:1], *sorted(reading[1:], key=lambda request: request.left)]):
            share = budget // 2 if place == 0 and len(reading) > 1 else budget
            count = min(request.left, share, budget if request.reads is None else room)
            if count:
                work.append((request, count))
                budget -= count
                room -= count if request.reads is not None else 0
        return work

    def _grow(self, request: Request) -> None:
        """Gives a decoding request the block that its next token needs, if need be by taking others' memory."""
        while request.blocks and len(request.blocks) < blocks_for(request.computable):
            if self.cache.free_blocks:
                request.blocks += self.cache.allocate(1)
            else:
                last = self.running.pop()
                self.cache.free(last.forget())
                self.waiting.appendleft(last)
                self.counts.preemptions += 1

    def _lay_out(self, work: Sequence[tuple[Request, int]]) -> tuple[Step, list[tuple[Request, int]]]:
        """The step, and for each of its logits the request and the place in its ids they belong to: the last place
        for one that writes, every place for one that reads."""
        tokens: list[int] = []
        starts, lengths, places, wanted = [0], [], [], []
        for request, count in work:
            end = request.cached + count
            first = request.cached if request.reads is not None else end - 1 if count == request.left else end
            wanted += [(request, place) for place in range(first, end)]
            places += [len(tokens) + place - request.cached for place in range(first, end)]
            lengths.append(request.cached)
            tokens += request.ids[request.cached : end]
            starts.append(len(tokens))
            prompt = min(end, request.prompt_tokens) - request.cached
            self.counts.tokens_prefilled += max(0, prompt)
        tables = [request.blocks for request, _ in work]
        return Step(torch.tensor(tokens), starts, lengths, tables, torch.tensor(places, dtype=torch.int64)), wanted

    def _remember(self, request: Request) -> None:
        while (request.remembered + 1) * BLOCK_TOKENS <= request.cached:
            key = request.next_key
            assert key is not None
            request.content = self.cache.remember(key, request.blocks[request.remembered])
            request.remembered += 1

    def _read(self, logits: Tensor, wanted: Sequence[tuple[Request, int]]) -> list[tuple[Request, Piece]]:
        """Log-probabilities of prompts."""
        places = [place for place, (request, _) in enumerate(wanted) if request.reads is not None]
        if places:
            targets = [wanted[place][0].ids[wanted[place][1] + 1] for place in places]
            top = max(wanted[place][0].reads or 0 for place in places)
            found = likelihoods(logits if len(places) == len(wanted) else logits[places], targets, top)
            for place, logprob in zip(places, found, strict=True):
                wanted[place][0].prompt_logprobs.append(logprob)
        ended = [request for request in self.running if request.reads is not None and not request.left]
        for request in ended:
            self._release(request)
        return [(request, request.end_reading()) for request in ended]

    def _draw(self, logits: Tensor, wanted: Sequence[tuple[Request, int]]) -> list[tuple[Request, Piece]]:
        """The next tokens of all whose tokens so far are computed."""
        places = [place for place, (request, _) in enumerate(wanted) if request.reads is None]
        if not places:
            return []
        requests = [wanted[place][0] for place in places]
        own = logits if len(places) == len(wanted) else logits[places]
        tokens, logprobs = choose(own, [request.row for request in requests])
        self.counts.tokens_generated += len(tokens)
        pieces = []
        for request, token, logprob in zip(requests, tokens, logprobs, strict=True):
            piece = request.accept(token, logprob)
            if piece is not None:
                pieces.append((request, piece))
            if request.finish:
                self._release(request)
        return pieces

    def _release(self, request: Request) -> None:
        self.running.remove(request)
        self.cache.free(request.forget())
