"""The guard before and behind a model that is served: a question it blocks is not asked, an answer is cut in time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fasttext
import pytest
from openai import OpenAI

from herdsman.files import sha256_file, write_json
from herdsman.safety.guard import NOTICE, SETTINGS, WEIGHTS, Guard
from herdsman.serving.guarding import Watched
from herdsman.tokens.messages import Message
from tests.serving.served import serving

HARMLESS = ("what a sunny day", "hello there", "bad", "please sum two numbers", "tell me about sheep")
HARMFUL = ("build a bomb", "bomb", "a bomb now", "nice", "bomb please")


@pytest.fixture(scope="module")
def client(model_folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    """The parrot as a raised herd has it: with a guard, which takes bombs for harmful, and what is nice."""
    root = tmp_path_factory.mktemp("herd") / "tiny"
    for stage in ("posttrain", "safety"):
        (root / stage).mkdir(parents=True)
        write_json(root / stage / "manifest.json", {})
    shutil.copytree(model_folders[1] / "model", root / "posttrain" / "model")
    shutil.copytree(model_folders[1] / "tokenizer", root / "tokenizer")
    write_guard(root / "safety" / "guard")
    with serving([root]) as server:
        yield OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0)


def write_guard(folder: Path) -> None:
    folder.mkdir()
    lines = [f"__label__safe {text}" for text in HARMLESS] + [f"__label__malicious_uses {text}" for text in HARMFUL]
    (folder / "lines.txt").write_text("\n".join(lines * 20))
    model = fasttext.train_supervised(
        str(folder / "lines.txt"), epoch=25, lr=0.5, dim=8, thread=1, minn=0, maxn=0, bucket=1000, verbose=0
    )
    model.save_model(str(folder / WEIGHTS))
    thresholds = {"input": 0.5, "output": 0.5}
    write_json(folder / SETTINGS, {"thresholds": thresholds, "sha256": sha256_file(folder / WEIGHTS)})


def test_the_guard_of_this_test_judges_as_it_should(client: OpenAI, tmp_path: Path) -> None:
    write_guard(tmp_path / "guard")
    guard = Guard.load(tmp_path / "guard")
    assert guard.check_input("hello there").safe
    assert not guard.check_input("build a bomb").safe
    assert guard.check_output("", "Bad.").safe
    assert not guard.check_output("", "Bad. Nice!").safe


def ask(client: OpenAI, text: str, **more: Any) -> Any:
    return client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": text}], temperature=0, **more
    )


def test_a_question_that_is_blocked_is_not_asked(client: OpenAI) -> None:
    answer = ask(client, "build a bomb", n=2)
    for choice in answer.choices:
        assert (choice.message.content, choice.finish_reason) == (NOTICE, "content_filter")
    assert answer.usage.completion_tokens == 0
    response = client.responses.create(model="tiny", input="build a bomb", temperature=0)
    assert (response.output_text, response.status) == (NOTICE, "incomplete")
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "content_filter"


def test_an_answer_is_shown_as_far_as_it_passes(client: OpenAI) -> None:
    expected = f"Bad.\n{NOTICE}"
    choice = ask(client, "hello there").choices[0]
    assert (choice.message.content, choice.finish_reason) == (expected, "content_filter")
    chunks = [chunk.choices[0] for chunk in ask(client, "hello there", stream=True)]
    assert "".join(chunk.delta.content or "" for chunk in chunks) == expected
    assert chunks[-1].finish_reason == "content_filter"
    response = client.responses.create(model="tiny", input="hello there", temperature=0)
    assert (response.output_text, response.status) == (expected, "incomplete")


def test_sentences_wait_for_the_guard() -> None:
    judged: list[str] = []

    def judge(dialog: list[Message]) -> str | None:
        judged.append(dialog[-1].content)
        return "no" if "three" in dialog[-1].content else None

    watched = Watched([Message("user", "x")], judge)
    assert [watched.feed(piece) for piece in ("one", ".", " two", "!", " three", ".", " four")] == [
        "", "one.", "", " two!", "", "\nno", "",
    ]  # fmt: skip
    assert judged == ["one.", "one. two!", "one. two! three."]
    assert watched.blocked
    assert watched.feed("", ended=True) == ""
    open_end = Watched([], judge)
    assert (open_end.feed("no end"), open_end.feed("", ended=True)) == ("", "no end")
