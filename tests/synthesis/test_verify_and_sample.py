"""Checks and the rule that what is unchecked stays out of training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from herdsman.errors import InputError
from herdsman.synthesis.prompt import Prompt, split_of
from herdsman.synthesis.sample import Check, Origin, Sample, content_id, passed, read_ledger, require, write_ledger
from herdsman.synthesis.verify import POLICY, similarity, verify
from herdsman.tokens.chat import Message

PROMPT = Prompt(
    (Message("user", 'Repeat the word "yes".'),), "tasks", "repeat", "yes", {"word": "yes"}, "synthesis.tasks@1"
)
MESSAGES = (Message("user", "Say yes."), Message("assistant", "yes"))


def sample(*checks: Check, source: str = "tasks") -> Sample:
    return Sample(MESSAGES, source, "repeat", Origin("reference", "synthesis.tasks@1"), checks)


@pytest.mark.parametrize(
    ("answer", "ended", "fault"),
    [
        ("yes", False, "does not end its turn"),
        ("  ", True, "is empty"),
        ("yes " * 200, True, "longer than"),
        ("yes<|eot_id|>", True, "special token"),
        ("yes\x07", True, "not text"),
        ("yes\ufffd", True, "not text"),
        ("a b c d a b c d a b c d", True, "repeats itself"),
        ("a b c d a b c d", True, ""),
        ("yes\n\tno", True, ""),
    ],
)
def test_form_of_an_answer(answer: str, ended: bool, fault: str) -> None:
    check = verify(PROMPT, answer, ended, {})[0]
    assert check.name == "format@1"
    assert (fault in check.evidence) if fault else check.verdict == "pass"
    assert check.verdict == ("fail" if fault else "pass")


def test_a_checker_that_breaks_passes_nothing_and_stops_nothing() -> None:
    broken = Prompt(PROMPT.messages, "tasks", "repeat", "yes", {}, PROMPT.engine)
    checks = verify(broken, "yes", True, {})
    assert [check.verdict for check in checks] == ["pass", "error"]
    assert not passed(checks)
    with pytest.raises(InputError, match="'answer' to have passed, and it is: error"):
        require(sample(*checks), POLICY)


def test_nothing_checked_is_not_passed() -> None:
    assert not passed([])
    assert passed([Check("format@1", "pass")])


@pytest.mark.parametrize(
    ("checks", "found"),
    [
        ((), "missing"),
        ((Check("format@1", "pass"),), "missing"),
        ((Check("format@1", "pass"), Check("answer@1", "fail")), "fail"),
        ((Check("format@1", "error"), Check("answer@1", "pass")), "error"),
        ((Check("format@1", "pass"), Check("grounded@1", "pass")), "missing"),
    ],
)
def test_training_refuses_what_its_policy_has_not_seen_pass(checks: tuple[Check, ...], found: str) -> None:
    with pytest.raises(InputError, match=f"it is: {found}"):
        require(sample(*checks), POLICY)


def test_training_takes_what_passed() -> None:
    good = sample(Check("format@1", "pass"), Check("answer@2", "pass"))
    assert require(good, POLICY) is good
    with pytest.raises(InputError, match="no policy"):
        require(sample(*good.checks, source="rumour"), POLICY)


def test_ledgers(tmp_path: Path) -> None:
    origin = Origin(
        "sampled", "synthesis.tasks@1", parents=("a", "b"), model="seed", sampler={"temperature": 0.6, "row": 3}
    )
    samples = [sample(Check("format@1", "pass")), Sample(MESSAGES, "tasks", "repeat", origin)]
    path = tmp_path / "samples.jsonl"
    write_ledger(path, samples)
    assert read_ledger(path) == samples
    row = json.loads(path.read_text().splitlines()[0])
    row["messages"][1]["content"] = "no"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match="line 1: the sample's content does not match its id"):
        read_ledger(path)
    path.write_text('{"id": "x"}\n')
    with pytest.raises(InputError, match="not a sample"):
        read_ledger(path)


def test_ids_depend_on_content_alone() -> None:
    assert sample().id == Sample(MESSAGES, "safety", "x", Origin("reference", "y")).id
    assert content_id({"a": 1, "b": [2]}) == content_id({"b": [2], "a": 1})
    assert content_id("\ud800")
    assert len(sample().id) == 32


def test_a_tenth_is_held_out() -> None:
    held_out = sum(split_of("tasks", "sum", number) == "held_out" for number in range(6000))
    assert 530 < held_out < 670


def test_similarity() -> None:
    assert similarity("same", "same") == 1
    assert similarity("abcd", "wxyz") == 0
    assert similarity("1, 2, 3", "1, 2, 4") > 0.8
