"""`herdsman serve` as a process: it says where it is, stops without cutting answers off, refuses in one sentence."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from herdsman.serving.options import ServerOptions
from herdsman.serving.places import find_models
from tests.conftest import Herdsman
from tests.serving.served import serving

LONG: Any = {"model": "random", "prompt": "the", "max_tokens": 400, "seed": 1, "logit_bias": {}, "stream": True}


@contextmanager
def process(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server of its own, and its address."""
    command = [sys.executable, "-m", "herdsman", "serve", *map(str, arguments), "--port", "0"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"})
    try:
        assert running.stderr is not None
        said = ""
        while "Serving" not in said and running.poll() is None:  # after remarks about tools
            said = running.stderr.readline()
        address = re.search(r"http://\S+", said)
        assert address, said + running.stderr.read()
        yield running, address[0]
    finally:
        running.kill()
        running.wait()
        assert running.stderr is not None
        running.stderr.close()


def test_it_stops_without_cutting_an_answer_off(model_folders: list[Path]) -> None:
    with process(model_folders[0], f"polly={model_folders[1]}") as (running, address):
        assert [model["id"] for model in httpx.get(f"{address}/v1/models", timeout=60).json()["data"]] == [
            "random",
            "polly",
        ]
        whole = httpx.post(f"{address}/v1/completions", json={**LONG, "stream": False}, timeout=60).json()
        with httpx.stream("POST", f"{address}/v1/completions", json=LONG, timeout=60) as answer:
            lines = answer.iter_lines()
            text = json.loads(next(lines)[6:])["choices"][0]["text"]
            running.send_signal(signal.SIGTERM)
            for line in lines:
                if line.startswith("data: {"):
                    text += json.loads(line[6:])["choices"][0]["text"]
        assert line == "" or line == "data: [DONE]"
        assert text == whole["choices"][0]["text"]
        assert running.wait(30) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/health")


def test_an_answer_that_takes_too_long_is_cut_off_at_last(model_folders: list[Path]) -> None:
    with serving(model_folders) as server:  # which gives answers a second
        heard: list[str] = []

        def listen() -> None:
            body = {**LONG, "max_tokens": 2000, "n": 16}
            try:
                with httpx.stream("POST", f"{server.address}/v1/completions", json=body, timeout=60) as answer:
                    heard.extend(answer.iter_lines())
            except httpx.HTTPError:
                heard.append("cut off")

        listening = threading.Thread(target=listen)
        listening.start()
        deadline = time.monotonic() + 20
        # Some at least: all 16 run together for some steps only, for a random model may end an answer at any token.
        while not re.search(
            r'herdsman_engine_running{model="random"} [1-9]', httpx.get(f"{server.address}/metrics").text
        ):
            assert time.monotonic() < deadline
        started = time.monotonic()
        server.stop()
        listening.join(20)
        assert time.monotonic() - started < 15


def test_nothing_new_is_let_in_while_it_stops(model_folders: list[Path]) -> None:
    with serving(model_folders) as server:
        server.gate.draining = True
        answer = httpx.post(f"{server.address}/v1/completions", json={**LONG, "stream": False})
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "stopping"
        assert answer.headers["retry-after"] == "10"
        assert httpx.get(f"{server.address}/health").status_code == 503


def test_what_cannot_be_served_is_one_sentence(herdsman: Herdsman, model_folders: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    twice = [model_folders[0], model_folders[0]]
    for arguments, said in (
        ([tmp_path / "none"], "there is no herd here"),
        ([tmp_path / "empty"], "this herd has no model yet"),
        (twice, "two models are called random"),
        ([model_folders[0], "--host", "0.0.0.0"], "HERDSMAN_API_KEY"),
        ([model_folders[0], "--tools", "knife"], "there is no tool 'knife'"),
        ([model_folders[0], "--api-keys", tmp_path / "none"], "cannot be read"),
    ):
        ended = herdsman("serve", *arguments)
        assert ended.returncode in (1, 2)
        assert said in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
        assert "Traceback" not in ended.stderr


def test_a_herd_gives_its_chat_model_and_its_base_model(tmp_path: Path) -> None:
    for stage in ("pretrain", "posttrain", "safety"):
        (tmp_path / "tiny" / stage).mkdir(parents=True)
        (tmp_path / "tiny" / stage / "manifest.json").write_text("{}")
    found = find_models([str(tmp_path / "tiny")])
    assert list(found) == ["tiny", "tiny-base"]
    assert (found["tiny"].chats, found["tiny-base"].chats) == (True, False)
    assert found["tiny"].model == tmp_path / "tiny" / "posttrain" / "model"
    assert found["tiny"].guard == tmp_path / "tiny" / "safety" / "guard"
    assert list(find_models([f"mine={tmp_path / 'tiny'}"])) == ["mine", "mine-base"]


def test_a_damaged_model_is_an_error_of_its_own_requests(model_folders: list[Path], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    (damaged / "model").mkdir(parents=True)
    (damaged / "origin.json").write_text("{}")
    with serving([damaged, model_folders[1]], ServerOptions()) as server:
        body = {"model": "damaged", "prompt": "x"}
        for _ in range(2):
            answer = httpx.post(f"{server.address}/v1/completions", json=body)
            assert answer.status_code == 503
            assert str(damaged) not in answer.text
        assert httpx.post(f"{server.address}/v1/completions", json={**body, "model": "parrot"}).status_code == 200
