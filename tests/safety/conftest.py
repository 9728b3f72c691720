from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from herdsman.progress import SILENT
from herdsman.safety.guard import SAFE, Guard
from herdsman.safety.guard_training import train_guard
from herdsman.safety.parts import Parts, divide
from herdsman.safety.prompts import (
    LabelledPrompt,
    TestPrompt,
    document_passages,
    document_sentences,
    read_labelled_prompts,
    read_xstest,
)
from tests.evaluation.herd import real_documents

FALSE_POSITIVES = 0.02


@dataclass
class Material:
    """The real prompts as the stage divides them, with passages of real documents."""

    prompts: list[LabelledPrompt]
    xstest: list[TestPrompt]
    parts: Parts
    setting_passages: list[str]
    test_passages: list[str]

    def train(self, folder: Path, seed: int = 1) -> Guard:
        return train_guard(
            self.parts, self.setting_passages, FALSE_POSITIVES, seed, folder, folder.with_name("scratch")
        )


@pytest.fixture(scope="session")
def material() -> Material:
    documents = real_documents()
    train = [row for row in documents if row["split"] == "train"]
    held_out = [row for row in documents if row["split"] == "held_out"]
    prompts = read_labelled_prompts(SILENT)
    prompts += [LabelledPrompt(text, SAFE, "documents") for text in document_sentences(train, 200)]
    xstest = read_xstest(SILENT)
    return Material(
        prompts,
        xstest,
        divide(prompts, [prompt.text for prompt in xstest]),
        list(document_passages(held_out[::2], 1000)),
        list(document_passages(held_out[1::2], 1000)),
    )


@pytest.fixture(scope="session")
def guard_folder(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guard trained as the stage trains it."""
    folder = tmp_path_factory.mktemp("safety") / "guard"
    material.train(folder)
    return folder


@pytest.fixture(scope="session")
def guard(guard_folder: Path) -> Guard:
    return Guard.load(guard_folder)
