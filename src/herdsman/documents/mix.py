"""How much of which stream: target shares by category, held to what there is, and the best up-sampled for annealing.

Llama 3's final mix is about 50% general knowledge, 25% mathematics and reasoning, 17% code and 8% multilingual tokens
(section 3.1.2); annealing up-samples sources of very high quality (section 3.4.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BYTES_PER_TOKEN = 4.0  # the tokenizer is learned after the mix is made, so tokens are estimated
DIGITS = 6


def make_mix(
    stream_bytes: Mapping[str, int],
    targets: Mapping[str, float],
    tokens: int | None,
    max_epochs: float,
    best_weight: float,
) -> dict[str, Any]:
    """Shares of the streams `category.tier` in pretraining and annealing, and the ledger behind them.

    Args:
        stream_bytes: UTF-8 bytes of each stream's training documents; streams without any have no part in the mix.
        targets: share of the tokens that each category should have.
        tokens: training tokens to plan for; None for as many as there are.
        max_epochs: how often a category may be repeated at most, as long as another one has tokens left.
        best_weight: how many times more often a token of the tier `best` is read when annealing.

    Returns:
        "pretrain" and "anneal", each with the share of every stream (they sum to 1), and "ledger": for each category
        its target share, the available tokens, the share it is given, and the epochs that this means.
    """
    streams = {name: size / BYTES_PER_TOKEN for name, size in sorted(stream_bytes.items()) if size > 0}
    available: dict[str, float] = {}
    for name, size in streams.items():
        available[_category(name)] = available.get(_category(name), 0.0) + size
    planned = float(tokens or sum(available.values()))
    given = share_out(targets, {name: max_epochs * size / planned for name, size in available.items()})

    def shares(weight: Mapping[str, float]) -> dict[str, float]:
        """Each category's share, divided among its streams by their tokens times the weight of the tier."""
        weighted = {name: size * weight[_tier(name)] for name, size in streams.items()}
        sums: dict[str, float] = {}
        for name, size in weighted.items():
            sums[_category(name)] = sums.get(_category(name), 0.0) + size
        return _rounded(
            {name: given[_category(name)] * size / sums[_category(name)] for name, size in weighted.items()}
        )

    ledger = [
        {
            "category": name,
            "target": round(targets.get(name, 0.0), DIGITS),
            "available": round(available.get(name, 0.0)),
            "given": round(given.get(name, 0.0), DIGITS),
            "epochs": round(given[name] * planned / available[name], 3) if name in available else 0.0,
        }
        for name in sorted({*targets, *available}, key=lambda name: (-targets.get(name, 0.0), name))
    ]
    return {
        "pretrain": shares({"best": 1.0, "rest": 1.0}),
        "anneal": shares({"best": best_weight, "rest": 1.0}),
        "ledger": ledger,
    }


def share_out(targets: Mapping[str, float], limits: Mapping[str, float]) -> dict[str, float]:
    """Shares that sum to 1, in the proportion of the targets but none above its limit; the rest goes to the others.

    Where all limits together are below 1, they are all exceeded in the same proportion: the tokens are not there.

    Args:
        limits: of every name that takes part; the largest share that it can give.
    """
    total = sum(limits.values())
    if total <= 1:
        return {name: limit / total for name, limit in limits.items()}
    given: dict[str, float] = {}
    open_names = [name for name in limits if targets.get(name, 0.0) > 0]
    left = 1.0
    while open_names:
        wanted = sum(targets[name] for name in open_names)
        full = [name for name in open_names if targets[name] / wanted * left >= limits[name]]
        if not full:
            given |= {name: targets[name] / wanted * left for name in open_names}
            left = 0.0
            break
        for name in full:
            given[name] = limits[name]
        left = 1.0 - sum(given.values())
        open_names = [name for name in open_names if name not in full]
    # What no wanted category can give comes from those whose target is nothing.
    unwanted = {name: limit for name, limit in limits.items() if name not in given}
    spare = sum(unwanted.values())
    return given | {name: max(left, 0.0) * limit / spare if spare else 0.0 for name, limit in unwanted.items()}


def _rounded(shares: Mapping[str, float]) -> dict[str, float]:
    """Shares above nothing with a few digits; the largest takes up what rounding leaves, so that they sum to 1."""
    rounded = {name: round(share, DIGITS) for name, share in shares.items()}
    rounded = {name: share for name, share in rounded.items() if share > 0}
    largest = max(rounded, key=lambda name: (rounded[name], name))
    rounded[largest] = round(1.0 - sum(share for name, share in rounded.items() if name != largest), DIGITS)
    return rounded


def _category(stream: str) -> str:
    return stream.rpartition(".")[0]


def _tier(stream: str) -> str:
    return stream.rpartition(".")[2]
