"""Which checkpoints are kept."""

from __future__ import annotations

import math
from collections.abc import Iterable

from herdsman.training.checkpoints.integrity import Manifest
from herdsman.training.checkpoints.options import CheckpointOptions


def kept(manifests: Iterable[Manifest], options: CheckpointOptions) -> set[int]:
    """Steps of the checkpoints to keep: the newest, the first from each multiple of tokens on, the best."""
    ordered = sorted(manifests, key=lambda manifest: manifest.step)
    steps = {manifest.step for manifest in ordered[-options.keep_last :]}
    if options.keep_every_tokens:
        first: dict[int, int] = {}
        for manifest in ordered:
            first.setdefault(manifest.tokens // options.keep_every_tokens, manifest.step)
        first.pop(0, None)  # before the first multiple
        steps |= set(first.values())
    scored = [(manifest.score, manifest.step) for manifest in ordered if manifest.score is not None]
    steps |= {step for _, step in sorted(pair for pair in scored if math.isfinite(pair[0]))[: options.keep_best]}
    return steps
