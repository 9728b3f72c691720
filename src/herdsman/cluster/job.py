"""What is trained at a time, and the share of it that falls to a rank of a layout. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

from herdsman.model.count import count_parameters
from herdsman.model.options import ModelOptions
from herdsman.training.parallel.layout import V_SHAPED, Layout
from herdsman.training.parallel.stages import layers_of_stages, padded_count

BYTES = {"float32": 4, "bfloat16": 2, "float8": 2}
"""Of an activation and of a gathered weight. In float8 only operands are narrow: what is kept is in bfloat16."""


@dataclass(frozen=True)
class Job:
    """A phase of training as far as it decides on time and memory.

    Attributes:
        micro_batch_tokens: as in `PretrainOptions`.
        precision: of matrix products; a name of `hardware.Precision`.
        document_tokens: length of the documents that attention stays inside of; the sequence's if left out.
        trainer: whose habits to reckon with: Herdsman's own; for published rows, what the paper tells of Meta's (norms
            and SwiGLU computed twice, inputs gathered twice, weights kept gathered, logits computed once) or Megatron's
            (as these, but embedding and output come on top of evenly cut layers).
    """

    model: ModelOptions
    vocab_size: int
    sequence_length: int
    batch_tokens: int
    micro_batch_tokens: int = 8192
    precision: Literal["float32", "bfloat16", "float8"] = "bfloat16"
    recompute: Literal["none", "selective", "full"] = "none"
    optimizer: Literal["adamw", "muon"] = "adamw"
    document_tokens: float | None = None
    trainer: Literal["herdsman", "paper", "megatron"] = "herdsman"

    @property
    def rows(self) -> int:
        """Sequences a step."""
        return self.batch_tokens // self.sequence_length

    @property
    def keys(self) -> float:
        """Keys that a query meets on average: causal attention inside documents."""
        return min(self.sequence_length, self.document_tokens or self.sequence_length) / 2

    @property
    def bytes_each(self) -> int:
        """Of an activation."""
        return BYTES[self.precision]

    @cached_property
    def sizes(self) -> Sizes:
        return _sizes(self.model, self.vocab_size)


@dataclass(frozen=True)
class Sizes:
    """Widths and parameters of a model, reckoned once.

    Attributes:
        queries, keys: width of all query heads, of all key (or value) heads.
        block, matrices: parameters of a block, and those of its matrices.
        end: of the embedding, and of the output where it is another matrix.
    """

    layers: int
    dim: int
    queries: int
    keys: int
    ffn: int
    block: int
    matrices: int
    end: int
    tied: bool

    @property
    def total(self) -> int:
        return self.layers * self.block + (1 if self.tied else 2) * self.end + self.dim


@lru_cache(maxsize=64)
def _sizes(model: ModelOptions, vocab_size: int) -> Sizes:
    count = count_parameters(model, vocab_size)
    matrices = (count.attention + count.feed_forward) // model.layers
    return Sizes(
        model.layers, model.dim, model.heads * model.head_width, model.kv_heads * model.head_width, model.ffn_dim,
        matrices + 2 * model.dim, matrices, count.embedding, model.tied_embeddings,
    )  # fmt: skip


@dataclass(frozen=True)
class Share:
    """What a rank has to do in a step.

    Attributes:
        tokens: of a micro-batch, on one rank.
        micro_batches: that pass through the rank, those that only fill up the pipeline's schedule among them.
        needed: of these, the ones that hold rows of the batch.
    """

    tokens: float
    micro_batches: int
    needed: int

    @staticmethod
    def of(job: Job, layout: Layout) -> Share:
        """As `training.token_course` cuts a batch into micro-batches."""
        rows = -(-job.rows // layout.data)
        size = min(rows, max(1, job.micro_batch_tokens // job.sequence_length))
        needed = -(-rows // size)
        tokens = size * job.sequence_length / layout.context
        return Share(tokens, padded_count(needed, layout), needed)


@dataclass(frozen=True)
class Rank:
    """A rank of the pipeline: how many blocks it has, and whether the embedding and the output."""

    number: int
    blocks: int
    is_first: bool
    is_last: bool


def ranks_of(job: Job, layout: Layout) -> tuple[Rank, ...]:
    even = job.trainer == "megatron" and job.model.layers % layout.stages == 0
    return _ranks(job.model.layers, layout.stages, layout.pipeline, layout.schedule in V_SHAPED, even)


@lru_cache(maxsize=4096)
def _ranks(layers: int, stages: int, pipeline: int, v_shaped: bool, even: bool) -> tuple[Rank, ...]:
    blocks = [layers // stages] * stages if even else [len(part) for part in layers_of_stages(layers, stages)]
    ranks = []
    for rank in range(pipeline):
        mine = {rank, stages - 1 - rank} if v_shaped else set(range(rank, stages, pipeline))
        ranks.append(Rank(rank, sum(blocks[stage] for stage in mine), 0 in mine, stages - 1 in mine))
    return tuple(ranks)


def ends_of(job: Job, rank: Rank) -> int:
    """Parameters of the embedding and the output, as far as a rank has them."""
    ends = rank.is_first + rank.is_last
    return job.sizes.end * (1 if job.sizes.tied and ends == 2 else ends)
