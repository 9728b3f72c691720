"""Rules that clean and balance SFT data (paper, section 4.2.2): each sample is kept, or dropped for a stated reason."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from herdsman.synthesis.conduct import is_refusal
from herdsman.synthesis.prompt import generator
from herdsman.synthesis.sample import Origin, Policy, Sample, content_id, require
from herdsman.tokens.chat import Message, encode
from herdsman.tokens.tokenizer import Tokenizer

APOLOGY = re.compile(r"^\W*(?:I(?:'m| am) sorry|I apologi[sz]e|My apologies|Sorry)\b", re.IGNORECASE)
MOST_EXCLAMATIONS = 2
EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]")
MOST_APOLOGIES = 0.1
MOST_REFUSALS = 0.25
JOINING_ENGINE = "posttraining.turns@1"


@dataclass
class Curated:
    """Samples that passed every rule, and those that did not, each with the rule that dropped it."""

    samples: list[Sample] = field(default_factory=list)
    dropped: list[tuple[Sample, str]] = field(default_factory=list)


def curate(samples: Sequence[Sample], policy: Policy, tokenizer: Tokenizer, context_length: int) -> Curated:
    """Applies the rules in order to each sample, in the samples' order.

    Raises:
        InputError: a sample lacks a check that the policy names; the generators must never hand over such a sample.
    """
    kept = Curated()
    seen: set[str] = set()
    apologies = refusals = 0
    for sample in samples:
        require(sample, policy)
        answer = sample.messages[-1].content
        identity = content_id([[m.role, " ".join(m.content.lower().split())] for m in sample.messages])
        reason = ""
        if identity in seen:
            reason = "duplicate"
        elif len(encode(tokenizer, sample.messages)[0]) > context_length:
            reason = "longer than the context"
        elif answer.count("!") > MOST_EXCLAMATIONS or EMOJI.search(answer):
            reason = "exclamation marks or emoji"
        elif APOLOGY.match(answer) and apologies + 1 > MOST_APOLOGIES * len(samples):
            reason = "too many apologies"
        elif is_refusal(answer) and refusals + 1 > MOST_REFUSALS * len(samples):
            reason = "too many refusals"
        if reason:
            kept.dropped.append((sample, reason))
            continue
        seen.add(identity)
        apologies += APOLOGY.match(answer) is not None
        refusals += is_refusal(answer)
        kept.samples.append(sample)
    return kept


def join_turns(
    samples: Sequence[Sample], share: float, seed: int, tokenizer: Tokenizer, context_length: int
) -> Iterator[Sample]:
    """Every sample once, in a random order, some of them joined to dialogs of several exchanges.

    After each exchange the dialog goes on with probability `share`, if the context holds the next one too.
    """
    rng = generator(seed, "turns")
    left = rng.sample(samples, len(samples))
    while left:
        dialog = [left.pop()]
        messages = dialog[0].messages
        while left and rng.random() < share:
            longer = messages + left[-1].messages
            if len(encode(tokenizer, longer)[0]) > context_length:
                break
            messages = longer
            dialog.append(left.pop())
        yield _joined(dialog, messages)


def _joined(dialog: Sequence[Sample], messages: tuple[Message, ...]) -> Sample:
    """One sample of several; what was checked last is what it ends with."""
    last = dialog[-1]
    if len(dialog) == 1:
        return last
    licence = "; ".join(dict.fromkeys(sample.origin.licence for sample in dialog if sample.origin.licence))
    parents = tuple(sample.id for sample in dialog)
    origin = Origin(last.origin.kind, JOINING_ENGINE, parents=parents, licence=licence)
    return Sample(messages, last.source, last.family, origin, last.checks)
