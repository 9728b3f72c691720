"""Which layers each stage of a pipeline has, and which stages each rank (paper, section 3.3.2). Needs no torch."""

from __future__ import annotations

from herdsman.training.parallel.layout import V_SHAPED, Layout


def layers_of_stages(layers: int, stages: int) -> list[range]:
    """Cuts a model into stages of like work: the embedding and the output weigh as much as a block each.

    So the first and the last stage have a block less than the others where that comes out even: with 126 layers in 128
    stages they have none.
    """
    units = layers + 2
    borders = [stage * units // stages for stage in range(stages + 1)]
    cuts = [0, *(min(max(border - 1, 0), layers) for border in borders[1:-1]), layers]
    return [range(cuts[i], cuts[i + 1]) for i in range(stages)]


def stages_of(rank: int, layout: Layout) -> list[int]:
    """The stages a pipeline rank has: every so many, or one going down and one coming back for V-shaped schedules."""
    if layout.schedule in V_SHAPED:
        return [rank, layout.stages - 1 - rank]
    return list(range(rank, layout.stages, layout.pipeline))


def padded_count(micro_batches: int, layout: Layout) -> int:
    """Micro-batches that the schedule can run with: the next multiple of the ranks, and two for each in a V.

    torch's schedules refuse other numbers; the ones added hold nothing that is trained.
    """
    if layout.pipeline == 1:
        return micro_batches
    unit = layout.stages if layout.schedule in V_SHAPED else layout.pipeline
    return -(-micro_batches // unit) * unit
