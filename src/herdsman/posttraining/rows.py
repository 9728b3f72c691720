"""Dialogs as padded batches: which tokens a row holds, which of them are trained, and the order of the batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from herdsman.synthesis.prompt import generator
from herdsman.tokens.chat import Kind, Message, encode
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.training.objective import Batch

SFT_KINDS = frozenset((Kind.BODY, Kind.CALL, Kind.END))
"""What SFT and DPO's likelihood term train: what the assistant writes, and that it stops."""

DPO_KINDS = frozenset((Kind.BODY, Kind.CALL))
"""What the preference term compares: header and terminator stay out (paper, section 4.1.4)."""


@dataclass(frozen=True)
class Row:
    """The ids of a dialog and the kind of each."""

    ids: list[int]
    kinds: list[int]


def dialog_row(tokenizer: Tokenizer, messages: Sequence[Message]) -> Row:
    """A dialog in which everything the assistant says can be trained."""
    ids, kinds = encode(tokenizer, messages)
    return Row(ids, list(map(int, kinds)))


def response_row(tokenizer: Tokenizer, prompt: Sequence[Message], response: str) -> Row:
    """A prompt and a response to it; what the assistant said inside the prompt counts as prompt."""
    ids, kinds = encode(tokenizer, [*prompt, Message("assistant", response)])
    start = len(encode(tokenizer, prompt, reply=True)[0])
    return Row(ids, [int(Kind.PROMPT)] * start + list(map(int, kinds[start:])))


def pad(rows: Sequence[Row], filler: int, device: torch.device, kinds: frozenset[Kind] = SFT_KINDS) -> Batch:
    """A batch of rows, filled up on the right; attention is causal, so no row sees its filling.

    Its tokens are all but each row's last; by token it holds `targets`, the token after each, `kinds`, the kind of each
    target (PROMPT where the row has ended), and `weights`, 1 where that is one of `kinds`.
    """
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [filler] * (longest - len(row.ids)) for row in rows], device=device)
    found = torch.tensor([row.kinds + [int(Kind.PROMPT)] * (longest - len(row.ids)) for row in rows], device=device)
    fields = {"targets": ids[:, 1:], "kinds": found[:, 1:], "weights": are(found[:, 1:], kinds).float()}
    return Batch(ids[:, :-1], None, fields)


def are(found: Tensor, kinds: frozenset[Kind]) -> Tensor:
    """Where a tensor of kinds holds one of these, of bool."""
    return torch.isin(found, torch.tensor(sorted(kinds), device=found.device))


def length_batches(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Items of like length together, padded to at most `most_tokens` a batch; for work that has no order."""
    return cut(sorted(range(len(lengths)), key=lambda item: (lengths[item], item)), lengths, most_tokens)


def plan_batches(
    lengths: Sequence[int], batch_tokens: int, epochs: float, seed: int, *names: object
) -> list[list[int]]:
    """The items of every step: an epoch's items sorted by length, cut into batches, and the batches shuffled.

    Sorting keeps padding small; items of like length are in random order, so batches differ between epochs.

    Args:
        lengths: tokens of each item, all its rows together.
        batch_tokens: most tokens of a batch, padding included; an item that is longer has a batch of its own.
        epochs: passes over the items; of a broken one the first batches.
        seed, names: say which random order this is.
    """
    plan: list[list[int]] = []
    for epoch in range(math.ceil(epochs)):
        rng = generator(seed, *names, epoch)
        order = list(range(len(lengths)))
        rng.shuffle(order)
        order.sort(key=lambda item: lengths[item])
        batches = cut(order, lengths, batch_tokens)
        rng.shuffle(batches)
        share = min(1.0, epochs - epoch)
        plan += batches[: max(1, round(share * len(batches)))]
    return plan


def cut(order: Sequence[int], lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Cuts items, which come in rising length, where a batch would be padded to more than `most_tokens`.

    An item that is longer has a batch of its own.
    """
    batches: list[list[int]] = []
    for item in order:
        if not batches or (len(batches[-1]) + 1) * lengths[item] > most_tokens:
            batches.append([])
        batches[-1].append(item)
    return batches
