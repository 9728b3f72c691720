"""What a run writes: checkpoints, how fast and how many, averaged weights, token shards."""

from __future__ import annotations

from herdsman.cluster.figure import Figure
from herdsman.model.count import ParameterCount
from herdsman.training.checkpoints.options import CheckpointOptions
from herdsman.training.options import PretrainOptions

FLOAT32_BYTES = 4
WRITE_BYTES_PER_SECOND_PER_GPU = Figure(
    2e12 / 16_384, "B/s", "assumed", 2e12 / 24_576, 7e12 / 16_384,
    "Llama 3, section 3.3.1: 2 TB/s sustained, 7 TB/s at best, shared by up to 24,576 GPUs; the same share is assumed",
)  # fmt: skip


def checkpoint_bytes(parameters: ParameterCount, optimizer: str) -> int:
    """Weights and optimizer state, all float32: two moments, but a single momentum for the matrices that Muon takes."""
    blocks = parameters.attention + parameters.feed_forward
    moments = 2 * parameters.total - (blocks if optimizer == "muon" else 0)
    return FLOAT32_BYTES * (parameters.total + moments)


def storage_figures(
    pretrain: PretrainOptions, parameters: ParameterCount, vocab_size: int, gpus: int, tokens: int, seconds: Figure
) -> dict[str, Figure]:
    """What pretraining reads and writes on the shared file system.

    Args:
        seconds: that the run takes, over which checkpoints are spread.
    """
    options = pretrain.checkpoints
    size = Figure.exact(
        checkpoint_bytes(parameters, pretrain.optimizer.name), "B", source="float32 weights and moments"
    )
    bandwidth = WRITE_BYTES_PER_SECOND_PER_GPU.times(gpus, "B/s")
    saves = seconds.over(options.every_seconds, "checkpoints", f"one every {options.every_seconds:g} s")
    averaged = sum(phase.average_checkpoints for phase in pretrain.phases) * FLOAT32_BYTES * parameters.total
    width = 2 if vocab_size <= 2**16 else 4
    return {
        "checkpoint_bytes": size,
        "checkpoint_bytes_per_gpu": size.over(gpus, "B"),
        "checkpoint_write_seconds": size.over(bandwidth, "s", WRITE_BYTES_PER_SECOND_PER_GPU.source),
        "burst_bytes_per_second": size.over(
            options.every_seconds, "B/s", "least rate at which one save is done before the next"
        ),
        "checkpoints_written": saves,
        "written_bytes": saves.times(size, "B"),
        "kept_bytes": size.times(
            kept_checkpoints(options, tokens), "B", "at the end, before the stage is cleared"
        ).plus(averaged),
        "token_bytes": Figure.exact(width * tokens, "B", source=f"{width} bytes a token, each read once"),
    }


def kept_checkpoints(options: CheckpointOptions, tokens: int) -> int:
    """Checkpoints on disk at most: the newest, the best, those kept for good, and the one being written."""
    kept = tokens // options.keep_every_tokens if options.keep_every_tokens else 0
    return options.keep_last + options.keep_best + kept + 1
