"""Grounded prompts: the answer stands in the document, and nothing else passes."""

from __future__ import annotations

from dataclasses import replace

from herdsman.synthesis.grounded import make_closed_book, make_open_book
from herdsman.synthesis.material import Material, code_names, gather_material, sentences
from herdsman.synthesis.prompt import Prompt
from herdsman.synthesis.sample import passed
from herdsman.synthesis.verify import verify


def test_references_stand_in_their_documents_and_pass(material: Material, library: dict[str, str]) -> None:
    prompts = [
        *make_open_book(material, None, 120, 1, "train"),
        *make_closed_book(material, 120, 1, "train"),
    ]
    assert {prompt.family for prompt in prompts} == {"mention", "gap", "quote", "define", "about"}
    for prompt in prompts:
        assert prompt.reference in " ".join(library[prompt.parents[0]].split())
        assert passed(verify(prompt, prompt.reference, True, library))
        assert prompt.licence == "PSF-2.0"
        assert not passed(verify(prompt, "Nothing of this kind was ever written there.", True, library))


def test_an_open_book_wants_the_passage_that_was_asked_for(material: Material, library: dict[str, str]) -> None:
    quote = next(p for p in make_open_book(material, None, 60, 1, "train") if p.family == "quote")
    other = next(s for s in sentences(library[quote.parents[0]]) if s != quote.reference)
    assert not passed(verify(quote, other, True, library))


def test_a_blank_hides_the_name_it_asks_for(material: Material) -> None:
    gaps = [prompt for prompt in make_open_book(material, None, 200, 1, "train") if prompt.family == "gap"]
    assert gaps
    for prompt in gaps:
        assert "____" in prompt.question
        assert prompt.reference in code_names(prompt.question)


def test_a_document_that_is_missing_is_an_error_and_no_pass(material: Material) -> None:
    prompt = next(make_open_book(material, None, 1, 1, "train"))
    checks = verify(prompt, prompt.reference, True, {})
    assert [check.verdict for check in checks] == ["pass", "error"]
    assert "KeyError" in checks[1].evidence
    assert not passed(checks)


def test_terms_are_defined_by_the_glossary(material: Material) -> None:
    found = {definition.term: definition for definition in material.definitions}
    assert found["list"].passage.text == "A built-in Python sequence."
    assert found["list"].countable
    assert found["object"].countable
    assert found["asyncio"].passage.text.startswith("The asyncio module is")
    assert not found["asyncio"].countable
    assert "GIL" not in found, "an entry that only points to another"
    asked = [
        p.question.lower() for p in make_closed_book(material, 5000, 1, "train") if p.reference.startswith("A built-in")
    ]
    asked += [
        p.question.lower()
        for p in make_closed_book(material, 5000, 1, "held_out")
        if p.reference.startswith("A built-in")
    ]
    assert any("a list" in question for question in asked)


def test_splits_ask_about_the_same_terms_in_other_words(material: Material) -> None:
    def asked(split: str) -> set[str]:
        made = make_closed_book(material, 5000, 1, split)  # type: ignore[arg-type]
        return {prompt.question.lower().rstrip("?.") for prompt in made}

    assert asked("train")
    assert asked("held_out")
    assert not asked("train") & asked("held_out")


def test_held_out_passages_that_also_stand_in_training_documents_are_not_used(material: Material) -> None:
    assert not list(make_open_book(material, material, 50, 1, "held_out"))


def test_counts_and_order(material: Material) -> None:
    first: list[Prompt] = list(make_open_book(material, None, 30, 1, "train"))
    assert len(first) == 30
    assert [p.id for p in make_open_book(material, None, 30, 1, "train")] == [p.id for p in first]
    assert [p.id for p in make_open_book(material, None, 30, 2, "train")] != [p.id for p in first]
    assert len({p.id for p in first}) == 30


def test_too_little_text_is_said_to_be_too_little() -> None:
    row = {"id": "0" * 32, "title": "", "text": "Nothing here.", "licence": None}
    found = gather_material([row])
    assert not found.enough
    assert not list(make_closed_book(found, 5, 1, "train"))


def test_white_space_does_not_decide(material: Material, library: dict[str, str]) -> None:
    prompt = next(p for p in make_open_book(material, None, 60, 1, "train") if p.family == "quote")
    assert passed(verify(prompt, prompt.reference.replace(" ", "\n", 1), True, library))
    assert not passed(verify(replace(prompt, facts={**prompt.facts, "answer": "x"}), prompt.reference, True, library))
