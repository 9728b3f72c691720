"""Rules that clean and balance SFT data (paper, section 4.2.2): each sample is kept, or dropped for a stated reason."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from herdsman.synthesis.conduct import is_refusal
from herdsman.synthesis.prompt import generator
from herdsman.synthesis.sample import Origin, Policy, Sample, content_id, require
from herdsman.tokens.chat import encode
from herdsman.tokens.tokenizer import Tokenizer

APOLOGY = re.compile(r"^\W*(?:I(?:'m| am) sorry|I apologi[sz]e|My apologies|Sorry)\b", re.IGNORECASE)
MOST_EXCLAMATIONS = 2
EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]")
MOST_APOLOGIES = 0.1
MOST_REFUSALS = 0.25
JOINING_ENGINE = "posttraining.two_turns@1"


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
    """The samples, a share of them as the first exchange of a dialog that another sample ends.

    Dialogs that would be longer than the context stay apart.
    """
    rng = generator(seed, "two turns")
    for sample in samples:
        chosen = rng.random() < share
        second = rng.choice(samples)
        joined = sample.messages + second.messages
        if chosen and len(encode(tokenizer, joined)[0]) <= context_length:
            licence = "; ".join(dict.fromkeys(s.origin.licence for s in (sample, second) if s.origin.licence))
            origin = Origin(second.origin.kind, JOINING_ENGINE, parents=(sample.id, second.id), licence=licence)
            yield Sample(joined, second.source, second.family, origin, second.checks)
        else:
            yield sample
