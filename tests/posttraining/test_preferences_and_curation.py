"""Rankings of responses, choice among samples, and the rules that clean SFT data."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from herdsman.errors import InputError
from herdsman.generation.sampling import Sampling
from herdsman.posttraining.candidates import (
    FAILED,
    NOT_CHOSEN,
    TRAINED,
    choose_best,
    pick,
    reference_candidates,
    sampled_candidates,
)
from herdsman.posttraining.curate import MOST_REFUSALS, curate, join_turns
from herdsman.posttraining.preferences import Preference, Response, rank
from herdsman.synthesis.prompt import Prompt
from herdsman.synthesis.sample import Check, Origin, Sample, read_ledger, write_ledger
from herdsman.synthesis.verify import POLICY, verify
from herdsman.tokens.chat import Message
from herdsman.tokens.tokenizer import Tokenizer

GOOD = (Check("format@1", "pass"), Check("answer@1", "pass"))
PROMPT = Prompt(
    (Message("user", 'Swap these two words: "up", "down"'),),
    "tasks",
    "swap",
    '"down", "up"',
    {"items": ["up", "down"]},
    "t",
)


def response(text: str, ended: bool = True, row: int = 0) -> Response:
    return Response(text, ended, verify(PROMPT, text, ended, {}), row)


def sample(question: str, answer: str, source: str = "tasks", checks: tuple[Check, ...] = GOOD) -> Sample:
    messages = (Message("user", question), Message("assistant", answer))
    return Sample(messages, source, "f", Origin("reference", "t"), checks)


def test_reference_then_passing_then_the_commonest_failure() -> None:
    given = [
        response("no idea"),
        response("down, up"),
        response("up up"),
        response("up up"),
        response("?", ended=False),
    ]
    ranked = rank(PROMPT, given, 0.95)
    assert ranked is not None
    assert ranked.responses == ('"down", "up"', "down, up", "up up")
    assert ranked.level == "significantly better"
    assert ranked.clear


def test_what_is_too_similar_is_left_out() -> None:
    assert rank(PROMPT, [response('"down", "up" ')], 0.95) is None, "nothing failed"
    assert rank(PROMPT, [response('"down", "upp"')], 0.9) is None, "hardly another answer"
    found = rank(PROMPT, [response('"down", "upp"')], 1.0)
    assert found is not None
    assert found.level == "marginally better"
    assert not found.clear
    assert rank(PROMPT, [response("cut off", ended=False)], 0.95) is None
    assert rank(PROMPT, [response("  ")], 0.95) is None


@pytest.mark.parametrize(
    ("worst", "level"),
    [("????????????", "significantly better"), ('"down" or "in"', "better"), ('"down", "uwp"', "marginally better")],
)
def test_levels(worst: str, level: str) -> None:
    found = rank(PROMPT, [response(worst)], 1.0)
    assert found is not None
    assert found.level == level


def test_a_tenth_of_prompts_measures_the_reward_model() -> None:
    made = [
        Preference((Message("user", f"Question {number}?"),), "tasks", "x", ("a", "b"), "better")
        for number in range(2000)
    ]
    assert 150 < sum(preference.held_out for preference in made) < 250
    for preference in made[:50]:
        assert replace(preference, responses=("c", "d")).held_out == preference.held_out
        row = preference.as_json()
        assert Preference.from_json(row) == preference
        assert (row["id"], row["held_out"]) == (preference.id, preference.held_out)


def test_the_best_reward_among_passing_samples_is_trained_on() -> None:
    given = [
        response("down, up", row=4),
        response("up up", row=5),
        response('"down", "up"', row=6),
        response("down, up"),
    ]
    sampling = Sampling(temperature=0.6, top_p=0.9, seed=3)
    (group,) = sampled_candidates([(PROMPT, given)], "seed", sampling)
    assert [candidate.times for candidate in group] == [2, 1, 1]
    assert group[0].sample.origin.sampler == {"temperature": 0.6, "top_p": 0.9, "seed": 3, "row": 4}
    for candidate, reward in zip(group, (0.5, 9.0, 0.7), strict=True):
        candidate.reward = reward
    choose_best(group)
    assert [candidate.use for candidate in group] == [NOT_CHOSEN, FAILED, TRAINED]
    assert pick(group) is group[1]
    group[2].reward = 0.5
    choose_best(group)
    assert [candidate.use for candidate in group] == [TRAINED, FAILED, NOT_CHOSEN], "the first of equals"


def test_references_are_checked_too(tmp_path) -> None:  # type: ignore[no-untyped-def]
    good, bad = reference_candidates([PROMPT, replace(PROMPT, reference="up, up")], {})
    assert (good.use, bad.use) == (TRAINED, FAILED)
    assert good.as_json()["times"] == 1
    write_ledger(tmp_path / "samples.jsonl", [good.sample])
    assert read_ledger(tmp_path / "samples.jsonl") == [good.sample]


def test_curation_drops_for_stated_reasons(tokenizer: Tokenizer) -> None:
    samples = [
        sample("One?", "1"),
        sample("one?", " 1 "),
        sample("Two?", "2!!!"),
        sample("Three?", "\U0001f600"),
        sample("Four?", "four " * 400),
        *[sample(f"Right {number}?", "right") for number in range(20)],
        *[sample(f"Sorry {number}?", "I'm sorry, it is 3.") for number in range(5)],
        *[sample(f"Bad {number}?", "I cannot help with that.") for number in range(15)],
    ]
    found = curate(samples, POLICY, tokenizer, 320)
    reasons = [reason for _, reason in found.dropped]
    assert {reason: reasons.count(reason) for reason in reasons} == {
        "duplicate": 1,
        "exclamation marks or emoji": 2,
        "longer than the context": 1,
        "too many apologies": 1,
        "too many refusals": 4,
    }
    assert len(found.samples) + len(found.dropped) == len(samples)
    refusals = sum("cannot help" in s.messages[-1].content for s in found.samples)
    assert refusals == int(MOST_REFUSALS * len(samples))
    kept = {s.id for s in found.samples}
    assert found.samples == [s for s in samples if s.id in kept]


def test_curation_stops_at_a_sample_that_was_not_checked(tokenizer: Tokenizer) -> None:
    unchecked = sample("Two?", "2", checks=(Check("format@1", "pass"), Check("answer@1", "error")))
    with pytest.raises(InputError, match="'answer' to have passed"):
        curate([sample("One?", "1"), unchecked], POLICY, tokenizer, 320)


def test_dialogs_of_several_exchanges_hold_every_sample_once(tokenizer: Tokenizer) -> None:
    samples = [sample(f"Number {number}?", str(number)) for number in range(400)]
    joined = list(join_turns(samples, 0.25, 1, tokenizer, 320))
    assert Counter(message for dialog in joined for message in dialog.messages) == Counter(
        message for sample in samples for message in sample.messages
    )
    exchanges = Counter(len(dialog.messages) // 2 for dialog in joined)
    assert 260 < len(joined) < 340, "a quarter goes on after each exchange: 300 dialogs are expected"
    assert exchanges[1] > 3 * exchanges[2] > 6 * exchanges[3] > 0
    known = {s.id: s for s in samples}
    for dialog in joined:
        if len(dialog.messages) > 2:
            parts = [known[parent] for parent in dialog.origin.parents]
            assert dialog.messages == tuple(message for part in parts for message in part.messages)
            assert dialog.checks == parts[-1].checks
    assert joined == list(join_turns(samples, 0.25, 1, tokenizer, 320))
    for none in (join_turns(samples, 0.9, 1, tokenizer, 30), join_turns(samples, 0.0, 1, tokenizer, 320)):
        assert sorted(s.id for s in none) == sorted(known), "none fits, none is wanted"
