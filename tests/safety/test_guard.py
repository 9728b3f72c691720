"""The guard: the same bytes each time, catches what it has not seen, lets documents pass, and fails in one sentence."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import fasttext
import pytest

from herdsman.errors import InputError
from herdsman.files import read_json, sha256_file, write_json
from herdsman.safety.guard import CATEGORIES, NOTICE, SAFE, SETTINGS, WEIGHTS, Guard, Thresholds
from herdsman.safety.guard_training import threshold_for
from herdsman.safety.tables import rate
from herdsman.tokens.chat import Message
from tests.safety.conftest import FALSE_POSITIVES, Material


def test_training_gives_the_same_bytes(material: Material, guard_folder: Path, tmp_path: Path) -> None:
    material.train(tmp_path / "guard")
    for name in (WEIGHTS, SETTINGS):
        assert sha256_file(tmp_path / "guard" / name) == sha256_file(guard_folder / name)


def test_it_was_trained_on_the_train_part_alone(material: Material, guard_folder: Path) -> None:
    lines = guard_folder.with_name("scratch").joinpath("guard_training.txt").read_text().splitlines()
    assert len(lines) == len(material.parts.train)
    read = {line.partition(" ")[2] for line in lines}
    for prompt in [*material.parts.test, *material.parts.threshold]:
        assert prompt.source == "documents" or " ".join(prompt.text.lower().split()) not in read


def test_it_catches_harmful_prompts_it_has_not_seen(material: Material, guard: Guard) -> None:
    blocked = [not guard.check_input(prompt.text).safe for prompt in material.parts.test if prompt.label != SAFE]
    assert len(blocked) > 150
    assert sum(blocked) / len(blocked) > 0.8
    unlike_anything = [not guard.check_input(prompt.text).safe for prompt in material.xstest if prompt.unsafe]
    assert sum(unlike_anything) / len(unlike_anything) > 0.4


def test_it_lets_harmless_prompts_and_documents_pass(material: Material, guard: Guard) -> None:
    """The stated rate, within what chance allows on texts that set no threshold."""
    asked = rate(not guard.check_input(prompt.text).safe for prompt in material.parts.test if prompt.label == SAFE)
    said = rate(not guard.check_output("", passage).safe for passage in material.test_passages)
    assert asked["examples"] > 1000
    assert asked["rate"] < 2 * FALSE_POSITIVES
    assert said["examples"] > 50
    assert said["low"] < 3 * FALSE_POSITIVES


def test_on_the_texts_that_set_thresholds_the_rate_is_kept_exactly(material: Material, guard: Guard) -> None:
    asked = [prompt.text for prompt in material.parts.threshold if prompt.label == SAFE]
    assert sum(not guard.check_input(text).safe for text in asked) <= FALSE_POSITIVES * len(asked)
    said = [not guard.check_output("", passage).safe for passage in material.setting_passages]
    assert sum(said) <= FALSE_POSITIVES * len(said)


@pytest.mark.parametrize(
    ("share", "scores", "threshold"),
    [(0.02, [0.5], 0.5), (0.25, [0.1, 0.9, 0.5, 0.3], 0.5), (0.24, [0.1, 0.9, 0.5, 0.3], 0.9), (0.4, [0.2] * 5, 0.2)],
)
def test_the_threshold_is_the_lowest_that_keeps_the_rate(share: float, scores: list[float], threshold: float) -> None:
    assert threshold_for(scores, share) == threshold
    assert sum(score > threshold for score in scores) <= share * len(scores)
    lower = [score for score in scores if score < threshold]
    assert not lower or sum(score > max(lower) for score in scores) > share * len(scores)


def test_no_texts_to_set_a_threshold_on_is_one_sentence() -> None:
    with pytest.raises(InputError, match="no harmless texts"):
        threshold_for([], 0.02)


def test_a_text_is_as_unsafe_as_its_worst_sentence(material: Material, guard: Guard) -> None:
    worst = max((p.text for p in material.parts.test if p.label != SAFE), key=lambda text: guard.score(text)[0])
    harmless = "The function returns the number of items in the list. It is fast. "
    assert guard.score(harmless * 3)[0] < 0.1
    assert guard.score(f"{harmless}\n{worst}\n{harmless}")[0] == pytest.approx(guard.score(worst)[0], abs=1e-6)
    verdict = guard.check_input(harmless + worst)
    assert not verdict.safe
    assert verdict.category in CATEGORIES
    assert guard.check_input(harmless).category == ""


@pytest.mark.parametrize("text", ["", " \n", "12345 ?!", "\x00", "漢字", "a" * 100_000, "so " * 50_000])
def test_odd_texts_have_a_verdict(guard: Guard, text: str) -> None:
    assert 0 <= guard.check_input(text).score <= 1
    assert 0 <= guard.check_output(text, text).score <= 1


def test_notices_judge_the_last_message(guard: Guard) -> None:
    strict, lenient = Guard(guard.model, Thresholds(-1.0, 1.0)), Guard(guard.model, Thresholds(1.0, -1.0))
    asked = [Message("system", "Be kind."), Message("user", "What is a list?")]
    answered = [*asked, Message("assistant", "A sequence of items.")]
    assert (strict.notice_for_input(asked), strict.notice_for_output(answered)) == (NOTICE, None)
    assert (lenient.notice_for_input(asked), lenient.notice_for_output(answered)) == (None, NOTICE)
    assert lenient.notice_for_output(answered[-1:]) == NOTICE
    assert guard.notice_for_input(asked) is guard.notice_for_output(answered) is None


def test_loading_gives_the_guard_that_was_written(guard_folder: Path, material: Material, guard: Guard) -> None:
    again = Guard.load(guard_folder)
    texts = [prompt.text for prompt in material.xstest[:50]]
    assert [again.score(text) for text in texts] == [guard.score(text) for text in texts]
    assert read_json(guard_folder / SETTINGS)["thresholds"] == vars(again.thresholds)


@pytest.mark.parametrize("damage", ["no folder", "no weights", "cut", "other weights", "settings", "no settings"])
def test_a_damaged_guard_is_one_sentence(damage: str, guard_folder: Path, tmp_path: Path) -> None:
    """fastText itself divides by zero, or never comes back, on weights that were cut."""
    folder = tmp_path / "guard"
    if damage != "no folder":
        shutil.copytree(guard_folder, folder)
    if damage == "no weights":
        (folder / WEIGHTS).unlink()
    elif damage == "cut":
        os.truncate(folder / WEIGHTS, 100)
    elif damage == "other weights":
        (tmp_path / "text").write_text("__label__a b\n__label__c d\n")
        fasttext.train_supervised(str(tmp_path / "text"), thread=1, verbose=0, minCount=1).save_model(
            str(folder / WEIGHTS)
        )
    elif damage == "settings":
        write_json(folder / SETTINGS, [1])
    elif damage == "no settings":
        (folder / SETTINGS).unlink()
    with pytest.raises(InputError, match="no readable guard here"):
        Guard.load(folder)
