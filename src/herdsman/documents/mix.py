"""How much of which stream: target shares by category, topics up- and down-sampled, held to what there is.

Llama 3's final mix is about 50% general knowledge, 25% mathematics and reasoning, 17% code and 8% multilingual tokens;
topics that the web has too much of are down-sampled (section 3.1.2); annealing up-samples sources of very high quality
(section 3.4.3).

A stream is `category.tier`; documents of a topic with a weight have streams of their own, `category.topic.tier`, so a
weight is obeyed by the share of a stream and the tokens stage needs no sampling of documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from herdsman.documents.mix_options import MixOptions

BYTES_PER_TOKEN = 4.0  # the tokenizer is learned after the mix is made, so tokens are estimated
DIGITS = 6
Stream = tuple[str, str, str]
"""Category, topic and tier."""


def stream_of(category: str, topic: str, tier: str, apart: Iterable[str]) -> str:
    """The stream of a document.

    Args:
        apart: topics with streams of their own: `topics` of mix.json.
    """
    return f"{category}.{topic}.{tier}" if topic in apart else f"{category}.{tier}"


def make_mix(training: Mapping[Stream, Sequence[int]], options: MixOptions) -> dict[str, Any]:
    """Shares of the streams in pretraining and annealing, and the ledger behind them.

    Args:
        training: number and UTF-8 bytes of the training documents by (category, topic, tier).

    Returns:
        "pretrain" and "anneal", each with the share of every stream (they sum to 1); "topics" with streams of their
        own; "ledger": for each category its target share, documents and tokens there are, the share it is given, the
        epochs that this means, the tokens read, those read again ("repeated") and those never read ("cut"); and
        "topic_ledger": the same for each category and topic, with the topic's weight.
    """
    sizes = {key: size / BYTES_PER_TOKEN for key, (_, size) in sorted(training.items()) if size > 0}
    pretrain, given = _shares(sizes, options, options.shares, options.tokens, 1.0)
    targets = options.anneal_shares or options.shares
    anneal, _ = _shares(sizes, options, targets, options.anneal_tokens or options.tokens, options.anneal_best_weight)
    planned = float(options.tokens or sum(sizes.values()))
    by_topic: dict[tuple[str, str], list[float]] = {}  # documents, tokens there are, tokens read
    for (category, topic, tier), size in sizes.items():
        row = by_topic.setdefault((category, topic), [0.0, 0.0, 0.0])
        row[0] += training[category, topic, tier][0]
        row[1] += size
        row[2] += given[category, topic, tier] * planned
    order = sorted({*options.shares, *(c for c, _ in by_topic)}, key=lambda c: (-options.shares.get(c, 0.0), c))
    ledger, topic_ledger = [], []
    for name in order:
        topics = {topic: row for (category, topic), row in sorted(by_topic.items()) if category == name}
        target = round(options.shares.get(name, 0.0), DIGITS)
        ledger.append({"category": name, "target": target, **_entry(list(topics.values()), planned)})
        for topic, row in topics.items():
            weight = options.topic_weights.get(topic, 1.0)
            topic_ledger.append({"category": name, "topic": topic, "weight": weight, **_entry([row], planned)})
    apart = sorted(options.topic_weights)
    return {"pretrain": pretrain, "anneal": anneal, "topics": apart, "ledger": ledger, "topic_ledger": topic_ledger}


def _entry(parts: list[list[float]], planned: float) -> dict[str, Any]:
    """The ledger of some topics; one that is repeated does not hide another that is cut."""
    documents, available, read = (sum(part[at] for part in parts) for at in range(3))
    return {
        "documents": int(documents),
        "available": round(available),
        "given": round(read / planned, DIGITS),
        "epochs": round(read / available, 3) if available else 0.0,
        "read": round(read),
        "repeated": round(sum(max(part[2] - part[1], 0.0) for part in parts)),
        "cut": round(sum(max(part[1] - part[2], 0.0) for part in parts)),
    }


def _shares(
    sizes: Mapping[Stream, float],
    options: MixOptions,
    targets: Mapping[str, float],
    tokens: int | None,
    best_weight: float,
) -> tuple[dict[str, float], dict[Stream, float]]:
    """Shares of the streams, and those of each (category, topic, tier), which are not rounded.

    A category's limit is what its topics can give in `max_epochs`; within it, topics are given shares in proportion to
    their tokens times their weight, none above its own limit; within a topic, tiers in proportion to their tokens
    times the weight of the tier.
    """
    planned = float(tokens or sum(sizes.values()))
    weights = options.topic_weights
    if not any(weights.get(topic, 1.0) for _, topic, _ in sizes):
        weights = {}  # nothing but topics of weight 0: something must be read
    wanted: dict[str, dict[str, float]] = {}
    limits: dict[str, dict[str, float]] = {}
    for (category, topic, _), size in sizes.items():
        weight = weights.get(topic, 1.0)
        name = topic if topic in weights else ""
        if weight > 0:
            wanted.setdefault(category, {}).setdefault(name, 0.0)
            limits.setdefault(category, {}).setdefault(name, 0.0)
            wanted[category][name] += weight * size
            limits[category][name] += options.max_epochs * size / planned
    given = share_out(targets, {category: sum(topics.values()) for category, topics in limits.items()})
    shares: dict[Stream, float] = dict.fromkeys(sizes, 0.0)
    streams: dict[str, float] = {}
    for category, topics in wanted.items():
        if not given[category]:
            continue
        relative = {topic: limit / given[category] for topic, limit in limits[category].items()}
        for topic, share in share_out(topics, relative).items():
            here = {
                key: size * (best_weight if key[2] == "best" else 1.0)
                for key, size in sizes.items()
                if key[0] == category and (key[1] if key[1] in weights else "") == topic
            }
            for key, size in here.items():
                shares[key] = given[category] * share * size / sum(here.values())
                name = stream_of(*key, options.topic_weights)
                streams[name] = streams.get(name, 0.0) + shares[key]
    return _rounded(streams), shares


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
    rounded = {name: round(share, DIGITS) for name, share in sorted(shares.items())}
    rounded = {name: share for name, share in rounded.items() if share > 0}
    largest = max(rounded, key=lambda name: (rounded[name], name))
    rounded[largest] = round(1.0 - sum(share for name, share in rounded.items() if name != largest), DIGITS)
    return rounded
