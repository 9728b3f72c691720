"""A sample of post-training data, where it comes from, what was checked, and the rule that unchecked ones stay out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from herdsman.errors import InputError
from herdsman.files import read_jsonl, write_jsonl
from herdsman.tokens.chat import Message

Verdict = Literal["pass", "fail", "error"]


@dataclass(frozen=True)
class Check:
    """What a checker found.

    Attributes:
        name: the checker and its version, such as "answer@1".
        verdict: "error" means that the checker itself could not decide; it never counts as a pass.
        evidence: what the verdict rests on, in a few words.
        backend: where it ran.
    """

    name: str
    verdict: Verdict
    evidence: str = ""
    backend: str = "in-process"

    def as_json(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Origin:
    """How a sample came to be.

    Attributes:
        kind: "reference" if written by a generator, "sampled" if written by a model.
        engine: the generator and its version, such as "synthesis.tasks@1".
        round: number of the post-training round.
        parents: ids of the documents or samples it was made from.
        model: name of the model that wrote it, if one did.
        sampler: temperature, top_p, seed and row of its draws, if a model wrote it.
        licence: licence of the text it quotes.
    """

    kind: Literal["reference", "sampled"]
    engine: str
    round: int = 1
    parents: tuple[str, ...] = ()
    model: str = ""
    sampler: Mapping[str, float] | None = None
    licence: str = ""


@dataclass(frozen=True)
class Sample:
    """A dialog that ends with the assistant's answer.

    Attributes:
        messages: the dialog.
        source: what made its prompt: tasks, grounded, conversation or safety.
        family: the kind of prompt within its source.
        origin: how it came to be.
        checks: what was found about its last message.
    """

    messages: tuple[Message, ...]
    source: str
    family: str
    origin: Origin
    checks: tuple[Check, ...] = ()
    id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", content_id([[m.role, m.content] for m in self.messages]))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> Sample:
        origin = Origin(**{**row["origin"], "parents": tuple(row["origin"]["parents"])})
        messages = tuple(Message.from_json(message) for message in row["messages"])
        checks = tuple(Check(**check) for check in row["checks"])
        return Sample(messages, row["source"], row["family"], origin, checks)


Policy = Mapping[str, Sequence[str]]
"""Checks that a sample of each source must have passed, by the checker's name without its version."""


def content_id(content: Any) -> str:
    """128-bit hash, in hex, of a JSON-able value."""
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def passed(checks: Iterable[Check]) -> bool:
    """True if there is a check and all of them passed."""
    verdicts = [check.verdict for check in checks]
    return bool(verdicts) and all(verdict == "pass" for verdict in verdicts)


def require(sample: Sample, policy: Policy) -> Sample:
    """The sample itself, if training may use it under the policy.

    Raises:
        InputError: its source has no policy, or it lacks or did not pass a check that the policy names.
    """
    where = f"sample {sample.id} ({sample.source}, {sample.family})"
    if sample.source not in policy:
        raise InputError(f"no policy says which checks a sample of {sample.source!r} needs", where=where)
    verdicts = {check.name.partition("@")[0]: check.verdict for check in sample.checks}
    for name in policy[sample.source]:
        if verdicts.get(name) != "pass":
            found = verdicts.get(name, "missing")
            raise InputError(f"training needs the check {name!r} to have passed, and it is: {found}", where=where)
    return sample


def write_ledger(path: Path, samples: Iterable[Sample]) -> None:
    """Writes samples as JSON lines, whole or not at all."""
    write_jsonl(path, (sample.as_json() for sample in samples))


def read_ledger(path: Path) -> list[Sample]:
    """Reads what `write_ledger` wrote.

    Raises:
        InputError: a line is not a sample, or its content does not match its id.
    """
    samples = []
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            sample = Sample.from_json(row)
        except (KeyError, TypeError) as error:
            raise InputError(f"not a sample ({error})", where=f"{path}, line {number}") from error
        if sample.id != row["id"]:
            raise InputError("the sample's content does not match its id", where=f"{path}, line {number}")
        samples.append(sample)
    return samples
