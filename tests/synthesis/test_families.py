"""Tasks: every family's reference passes its own check, wrong answers fail, and held-out content is never trained."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from herdsman.synthesis.families import Family, make_tasks
from herdsman.synthesis.material import Material
from herdsman.synthesis.prompt import Prompt, split_of
from herdsman.synthesis.sample import passed
from herdsman.synthesis.verify import BY_NAME, FAMILIES, verify

NAMES = [family.name for family in FAMILIES]


def tasks(material: Material, split: str = "train", count: int = 40, difficulty: int = 3) -> dict[str, list[Prompt]]:
    made: dict[str, list[Prompt]] = {name: [] for name in NAMES}
    for prompt in make_tasks(FAMILIES, material, split, count * len(FAMILIES), difficulty, 7):  # type: ignore[arg-type]
        made[prompt.family].append(prompt)
    return made


@pytest.fixture(scope="module")
def made(material: Material) -> dict[str, list[Prompt]]:
    return tasks(material)


@pytest.mark.parametrize("name", NAMES)
def test_references_pass_and_other_answers_fail(made: dict[str, list[Prompt]], name: str) -> None:
    prompts = made[name]
    assert len(prompts) >= 20
    references = {prompt.reference for prompt in prompts}
    for prompt in prompts:
        assert passed(verify(prompt, prompt.reference, True, {}))
        assert passed(verify(prompt, f" {prompt.reference}\n", True, {}))
        wrong = {
            prompt.question,
            "",
            "I do not know.",
            prompt.reference + "x",
            f"{prompt.reference} {prompt.reference}",
        }
        wrong |= {reference for reference in references if reference != prompt.reference}
        for answer in wrong:
            assert not passed(verify(prompt, answer, True, {})), (prompt.question, answer)
        assert not passed(verify(prompt, prompt.reference, False, {})), "an answer that was cut off"


def test_the_right_answers_are_what_python_says(made: dict[str, list[Prompt]]) -> None:
    expected = {
        "sum": lambda f: f["a"] + f["b"],
        "larger": lambda f: max(f["a"], f["b"]),
        "next": lambda f: f["a"] + 1,
        "count": lambda f: len(f["items"]),
        "first": lambda f: f["items"][0],
        "last": lambda f: f["items"][-1],
        "letter": lambda f: f["word"][0],
        "leaf": lambda f: f["name"].split(".")[-1],
        "module": lambda f: f["name"][: f["name"].rindex(".")],
    }
    for name, solve in expected.items():
        assert {prompt.reference for prompt in made[name]} == {str(solve(prompt.facts)) for prompt in made[name]}
    for prompt in made["sort"]:
        assert [int(part) for part in prompt.reference.split(",")] == sorted(prompt.facts["items"])
    for prompt in made["member"]:
        assert (prompt.reference == "yes") == (prompt.facts["word"] in prompt.facts["items"])
    for prompt in made["strings"]:
        assert eval(prompt.reference) == list(prompt.facts["items"])
    for prompt in made["assign"]:
        space: dict[str, int] = {}
        exec(prompt.reference, space)
        assert space[prompt.facts["word"]] == prompt.facts["value"]


def test_a_statement_is_judged_by_its_meaning_to_python(made: dict[str, list[Prompt]]) -> None:
    strings = made["strings"][0]
    assert passed(verify(strings, strings.reference.replace("'", '"').replace(", ", ",  "), True, {}))
    assign = made["assign"][0]
    assert passed(verify(assign, assign.reference.replace(" ", ""), True, {}))
    assert not passed(verify(assign, f"{assign.reference}; import os", True, {}))
    assert not passed(verify(assign, "(" * 5000, True, {}))


def test_what_is_asked_about_is_never_in_both_splits(material: Material, made: dict[str, list[Prompt]]) -> None:
    held_out = tasks(material, "held_out")

    def contents(prompts: list[Prompt], family: Family) -> set[str]:
        return {str(family.content(prompt.facts)) for prompt in prompts}

    for name in NAMES:
        assert held_out[name], name
        assert not contents(made[name], BY_NAME[name]) & contents(held_out[name], BY_NAME[name]), name
    assert split_of("tasks", "sum", BY_NAME["sum"].content({"a": 3, "b": 5})) == split_of(
        "tasks", "sum", BY_NAME["sum"].content({"a": 5, "b": 3})
    )


def test_difficulty_makes_tasks_larger(material: Material) -> None:
    def longest(difficulty: int) -> int:
        return max(len(prompt.facts["items"]) for prompt in tasks(material, difficulty=difficulty)["first"])

    assert longest(1) == 3
    assert longest(3) == 5
    easy = {name for name, prompts in tasks(material, difficulty=1).items() if prompts}
    assert easy == {family.name for family in FAMILIES if family.least_difficulty == 1}
    assert "sort" not in easy


def test_a_seed_gives_the_same_tasks_in_any_process(material: Material, made: dict[str, list[Prompt]]) -> None:
    program = (
        "from tests.synthesis.conftest import rows\n"
        "from tests.synthesis.test_families import tasks\n"
        "from herdsman.synthesis.material import gather_material\n"
        "for made in tasks(gather_material(rows())).values():\n"
        "    for prompt in made: print(prompt.id, prompt.reference)\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    here = "".join(f"{prompt.id} {prompt.reference}\n" for prompts in made.values() for prompt in prompts)
    assert outputs == [here, here]


def test_prompts_survive_their_file(made: dict[str, list[Prompt]]) -> None:
    for prompts in made.values():
        assert Prompt.from_json(prompts[0].as_json()) == prompts[0]
        assert replace(prompts[0], reference="other").id == prompts[0].id
