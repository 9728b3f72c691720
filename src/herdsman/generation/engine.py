"""The engine that every later stage samples from and scores with: batched decoding over a KV cache."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from herdsman.errors import InputError
from herdsman.generation.sampling import Sampling, choose, uniforms
from herdsman.model.attention import KVCache
from herdsman.model.llama import Llama
from herdsman.tokens.foreign import ForeignTokenizer
from herdsman.tokens.tokenizer import Tokenizer

CACHE_BYTES = 256 * 2**20
PREFILL_TOKENS = 8192
BATCH_ROWS = 192
COMPACT_SHARE = 0.75


@dataclass(frozen=True)
class Completion:
    """What the model wrote after a prompt, without the token that ended it.

    Attributes:
        ids: the sampled tokens.
        text: the same as text; invalid UTF-8 is shown as U+FFFD.
        stopped: a stop token ended it, not its length limit.
    """

    ids: list[int]
    text: str
    stopped: bool


@dataclass(frozen=True)
class Score:
    """Natural log-probability of a continuation, its tokens, and whether greedy decoding would have written it."""

    logprob: float
    tokens: int
    greedy: bool


class Engine:
    """Generates with and scores by one model.

    Args:
        model: the decoder, used in evaluation mode.
        tokenizer: its tokenizer.
        cache_bytes: memory that the keys and values of a batch may take; rows are admitted only while they fit.
    """

    def __init__(self, model: Llama, tokenizer: Tokenizer | ForeignTokenizer, cache_bytes: int = CACHE_BYTES):
        self.model, self.tokenizer, self.cache_bytes = model.eval(), tokenizer, cache_bytes
        weight = model.output_weight
        self.device, self.dtype = weight.device, weight.dtype

    @property
    def context_length(self) -> int:
        """Most tokens, prompt and completion together."""
        return self.model.options.context_length

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        on_progress: Callable[[int], object] | None = None,
        rows: Sequence[int] | None = None,
    ) -> list[Completion]:
        """Completions of the prompts, in their order. Prompts that are equal are read once.

        Args:
            prompts: token ids; a completion ends at the latest where the context does.
            sampling: how tokens are drawn.
            on_progress: called with the number of completions that have just been finished.
            rows: number of each prompt's stream of random draws; its place in `prompts` if left out. The same number,
                prompt and seed give the same sample whatever else is generated.

        Raises:
            InputError: a prompt is empty or leaves no room in the context.
        """
        rows = range(len(prompts)) if rows is None else rows
        for prompt in prompts:
            self._check(prompt)
        done: dict[int, tuple[list[int], bool]] = {}
        for batch in self._batches(prompts, sampling.max_new_tokens):
            written: dict[int, list[int]] = {member: [] for member in batch}
            for step in self._decode([(prompts[member], rows[member]) for member in batch], sampling):
                for index, token, ended in step:
                    member = batch[index]
                    if token is not None:
                        written[member].append(token)
                    if ended:
                        done[member] = (written[member], token is None)
                        if on_progress:
                            on_progress(1)
        results = (done[member] for member in range(len(prompts)))
        return [Completion(ids, self.tokenizer.decode(ids), stopped) for ids, stopped in results]

    def stream(self, prompt: Sequence[int], sampling: Sampling, row: int = 0) -> Iterator[str]:
        """The completion of one prompt in pieces of valid text, as soon as each is known."""
        self._check(prompt)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for step in self._decode([(prompt, row)], sampling):
            for _, token, _ in step:
                if token is not None and (piece := decoder.decode(self.tokenizer.decode_bytes([token]))):
                    yield piece
        if rest := decoder.decode(b"", final=True):
            yield rest

    @torch.inference_mode()
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
            batch_tokens: most tokens of a padded batch.

        Raises:
            InputError: a context or continuation is empty, or a continuation fills the whole context.
        """
        scores: dict[int, Score] = {}
        sequences = [self._joined(context, continuation) for context, continuation in pairs]
        order = sorted(range(len(pairs)), key=lambda index: (len(sequences[index]), index))
        start = 0
        while start < len(order):
            end = start + 1
            while end < len(order) and (end + 1 - start) * len(sequences[order[end]]) <= batch_tokens:
                end += 1
            batch = order[start:end]
            counts = [len(pairs[index][1]) for index in batch]
            for index, score in zip(batch, self._score_batch([sequences[i] for i in batch], counts), strict=True):
                scores[index] = score
            if on_progress:
                on_progress(len(batch))
            start = end
        return [scores[index] for index in range(len(pairs))]

    def _joined(self, context: Sequence[int], continuation: Sequence[int]) -> list[int]:
        if not context or not continuation:
            raise InputError("a scored pair needs at least one token of context and one of continuation")
        if len(continuation) > self.context_length:
            raise InputError(
                f"a continuation of {len(continuation)} tokens exceeds the context of {self.context_length}"
            )
        return [*context, *continuation][-(self.context_length + 1) :]

    def _score_batch(self, sequences: list[list[int]], counts: list[int]) -> Iterator[Score]:
        tokens = self._padded([sequence[:-1] for sequence in sequences])
        hidden = self.model(tokens)
        for row, (sequence, count) in enumerate(zip(sequences, counts, strict=True)):
            end = len(sequence) - 1
            logprobs = log_softmax(self.model.logits(hidden[row, end - count : end]), -1)
            targets = torch.tensor(sequence[-count:], device=self.device)
            chosen = logprobs.gather(-1, targets[:, None])[:, 0]
            yield Score(float(chosen.double().sum()), count, bool((logprobs.argmax(-1) == targets).all()))

    def _check(self, prompt: Sequence[int]) -> None:
        if not prompt:
            raise InputError("a prompt needs at least one token")
        if len(prompt) >= self.context_length:
            raise InputError(f"a prompt of {len(prompt)} tokens leaves no room in the context of {self.context_length}")

    def _batches(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> Iterator[list[int]]:
        """Places in `prompts`, those of like length together, as many at a time as memory is meant for."""
        model = self.model.options
        slot_bytes = 2 * model.layers * model.kv_heads * model.head_width * self.dtype.itemsize
        batch: list[int] = []
        distinct: set[tuple[int, ...]] = set()
        for index in sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), tuple(prompts[index]), index)):
            length = len(prompts[index])
            slots = min(length + max_new_tokens, self.context_length)
            distinct.add(tuple(prompts[index]))
            full = (len(batch) + 1) * slots * slot_bytes > self.cache_bytes or len(batch) >= BATCH_ROWS
            if batch and (full or len(distinct) * length > PREFILL_TOKENS):
                yield batch
                batch, distinct = [], {tuple(prompts[index])}
            batch.append(index)
        if batch:
            yield batch

    def _padded(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """[rows, longest] filled up on the right."""
        longest = max(map(len, sequences))
        rows = [[*sequence, *[self.tokenizer.pad] * (longest - len(sequence))] for sequence in sequences]
        return torch.tensor(rows, device=self.device)

    def _prefill(self, prompts: list[tuple[int, ...]], slots: int) -> tuple[KVCache, Tensor]:
        """A cache that holds the prompts, one row each, and the logits [rows, vocab] after their last tokens.

        Equal prompts are computed once and their rows copied.
        """
        distinct = list(dict.fromkeys(prompts))
        tokens = self._padded(distinct)
        cache = KVCache(self.model.options, len(distinct), slots, self.dtype, self.device)
        positions = torch.arange(tokens.shape[1], device=self.device).expand_as(tokens)
        hidden = self.model(tokens, positions=positions, cache=cache)
        last = torch.tensor([len(prompt) - 1 for prompt in distinct], device=self.device)
        logits = self.model.logits(hidden[torch.arange(len(distinct), device=self.device), last])
        if len(distinct) < len(prompts):
            place = {prompt: index for index, prompt in enumerate(distinct)}
            copies = torch.tensor([place[prompt] for prompt in prompts], device=self.device)
            cache.select(copies)
            logits = logits[copies]
        return cache, logits

    def _decode(
        self, rows: list[tuple[Sequence[int], int]], sampling: Sampling
    ) -> Iterator[list[tuple[int, int | None, bool]]]:
        """Decodes (prompt, number of its draws) rows together; yields, a step at a time, (row, token, ended).

        A row that ends by a stop token yields None for it. Ended rows leave the batch once they are a quarter of it:
        until then their results are ignored, because moving the cache costs more than computing them.
        """
        prompts = [tuple(prompt) for prompt, _ in rows]
        stop_ids = self.tokenizer.stop_ids if sampling.stop_ids is None else sampling.stop_ids
        limits = [min(sampling.max_new_tokens, self.context_length - len(prompt)) for prompt in prompts]
        slots = max(len(prompt) + limit for prompt, limit in zip(prompts, limits, strict=True))
        draws = torch.stack([torch.from_numpy(uniforms(sampling.seed, row, max(limits))) for _, row in rows])
        with torch.inference_mode():
            cache, logits = self._prefill(prompts, slots)
        live = list(range(len(rows)))
        ended = [False] * len(rows)
        for step in range(max(limits)):
            with torch.inference_mode():
                tokens = choose(logits, sampling.temperature, sampling.top_p, draws[live, step].to(self.device))
            events: list[tuple[int, int | None, bool]] = []
            for row, token in zip(live, tokens.tolist(), strict=True):
                if not ended[row]:
                    stopped = token in stop_ids
                    ended[row] = stopped or step + 1 >= limits[row]
                    events.append((row, None if stopped else token, ended[row]))
            yield events
            kept = [place for place, row in enumerate(live) if not ended[row]]
            if not kept:
                return
            with torch.inference_mode():
                if len(kept) <= COMPACT_SHARE * len(live):
                    index = torch.tensor(kept, device=self.device)
                    cache.select(index)
                    tokens, live = tokens[index], [live[place] for place in kept]
                # An ended row that has not left yet may have come to the end of its slots: it stays on the last one.
                places = [min(len(prompts[row]) + step, slots - 1) for row in live]
                positions = torch.tensor(places, device=self.device)[:, None]
                hidden = self.model(tokens[:, None], positions=positions, cache=cache)
                logits = self.model.logits(hidden[:, 0])
