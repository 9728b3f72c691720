"""Hostile clients: whatever they send, the answer is a 4xx with one sentence, nothing of other chats, and no crash."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from herdsman.serving.app import make_app
from herdsman.serving.containers import Containers
from herdsman.serving.gate import Gate
from herdsman.serving.models import Models
from herdsman.serving.options import ServerOptions
from herdsman.serving.places import find_models
from herdsman.serving.server import Server
from herdsman.serving.toolbox import Toolbox
from tests.serving.served import no_tool, serving

SECRET = "the-other-chats-secret-7f3a"
REQUESTS = 10_000
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/tokenize", "/detokenize")
FUNCTION: Any = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}
FORM: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": ["x", "y"]}}}
GOOD: dict[str, Any] = {
    PATHS[0]: {
        "model": "parrot", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
        "max_tokens": 1, "n": 1, "stop": ["a"], "logit_bias": {"5": 1}, "response_format": FORM,
        "tools": [{"type": "function", "function": FUNCTION}], "stream": False, "seed": 1, "top_p": 0.5,
    },
    PATHS[1]: {
        "model": "parrot", "prompt": ["\n", "a\n"], "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0,
    },
    PATHS[2]: {
        "model": "parrot", "input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}],
        "max_output_tokens": 1, "tools": [{"type": "function", **FUNCTION}], "store": True,
        "previous_response_id": None, "text": {"format": {"type": "text"}}, "instructions": "z",
    },
    PATHS[3]: {"model": "parrot", "prompt": "x"},
    PATHS[4]: {"model": "parrot", "tokens": [1, 2]},
}  # fmt: skip
STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 1e308, -0.5, "", "x", "\x00", "\ud800", "<|eot_id|>", [], [[]], [None], {}, {"": {}},
    "resp_" + "0" * 32, "../../etc/passwd", "x" * 70_000, [0] * 5000, {"type": "function"}, {"role": "tool"}, 10**400,
    [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}], {"$ref": "http://127.0.0.1/"},
)  # fmt: skip


def spoiled(chance: random.Random, value: Any, depth: int = 0) -> Any:
    """The value with something in it replaced, removed, renamed or put beside."""
    if not isinstance(value, (dict, list)) or not value or (depth and chance.random() < 0.3):
        return chance.choice(STRANGE)
    if isinstance(value, list):
        place = chance.randrange(len(value))
        return [*value[:place], spoiled(chance, value[place], depth + 1), *value[place + 1 :]]
    key = chance.choice(list(value))
    act = chance.random()
    if act < 0.15:
        return {other: kept for other, kept in value.items() if other != key}
    if act < 0.3:
        return {**value, chance.choice(["unknown", key + "x", "\x00", "__class__"]): chance.choice(STRANGE)}
    return {**value, key: spoiled(chance, value[key], depth + 1)}


def broken(chance: random.Random, body: bytes) -> bytes:
    """Bytes that are hardly JSON any more."""
    act = chance.randrange(6)
    place = chance.randrange(len(body) + 1)
    if act == 0:
        return body[:place]
    if act == 1:
        return body[:place] + bytes([chance.randrange(256)]) + body[place + 1 :]
    if act == 2:
        return body[:place] + b"\xff\xc0\x80" + body[place:]
    if act == 3:
        return b"[" * chance.randrange(1, 5000) + body
    if act == 4:
        return chance.randbytes(chance.randrange(300))
    return body[:place] + b"NaN" + body[place:]


@pytest.fixture(scope="module")
def gate(model_folders: list[Path]) -> Iterator[Gate]:
    options = ServerOptions(body_bytes=2**20)
    models = Models(find_models([str(folder) for folder in model_folders]), "cpu", options)
    yield make_app(models, options, Toolbox({}, no_tool, Containers(options)))
    models.close()


async def ten_thousand(gate: Gate) -> list[tuple[str, bytes, httpx.Response]]:
    chance = random.Random(7)
    asked = []
    transport = httpx.ASGITransport(gate)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        kind = {"Content-Type": "application/json"}
        secret = {"model": "parrot", "instructions": SECRET, "input": SECRET}
        assert (await client.post(PATHS[2], json=secret)).status_code == 200
        for number in range(REQUESTS):
            path = PATHS[number % len(PATHS)]
            body = json.dumps(spoiled(chance, GOOD[path])).encode()
            if number % 3 == 0:
                body = broken(chance, body)
            asked.append((path, body, await client.post(path, content=body, headers=kind)))
    return asked


def test_ten_thousand_malformed_requests(gate: Gate) -> None:
    """What happens to be well-formed is answered; the rest is refused, in one sentence each."""
    refused = 0
    for path, body, answer in asyncio.run(ten_thousand(gate)):
        where = f"{path} {body[:300]!r}: {answer.status_code} {answer.text[:300]}"
        assert answer.status_code == 200 or 400 <= answer.status_code < 500, where
        assert SECRET not in answer.text, where
        if answer.status_code != 200:
            refused += 1
            message = answer.json()["error"]["message"]
            assert message, where
            assert "\n" not in message, where
            assert len(message) < 600, where
            assert "Traceback" not in message, where
    assert refused > REQUESTS * 0.8


def raw(server: Server, data: bytes, seconds: float = 5) -> bytes:
    """What the server says to these bytes until it closes the connection or falls silent."""
    address = urlsplit(server.address)
    with socket.create_connection((address.hostname, address.port), timeout=seconds) as connection:
        connection.sendall(data)
        said = b""
        try:
            while part := connection.recv(65536):
                said += part
        except TimeoutError:
            pass
        return said


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        b"GET\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /%ff%00/../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: a\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
    ],
)
def test_bytes_that_are_hardly_http(server: Server, data: bytes) -> None:
    said = raw(server, data, seconds=1)
    assert not said or said.split(b" ")[1].startswith((b"4", b"2")), said[:200]
    assert b"root:" not in said
    assert httpx.get(f"{server.address}/health").status_code == 200


def test_a_client_that_never_says_what_it_wants_is_let_go(
    model_folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("herdsman.serving.server.HEADER_SECONDS", 0.3)
    with serving(model_folders) as server:
        started = time.monotonic()
        assert raw(server, b"POST /v1/completions HTTP/1.1\r\nHost: local") == b""
        assert time.monotonic() - started < 4


def used_bytes(server: Server) -> dict[str, float]:
    lines = httpx.get(f"{server.address}/metrics").text.splitlines()
    return {
        line.split(" ")[0]: float(line.split(" ")[1])
        for line in lines
        if line.startswith(("herdsman_engine_running", "herdsman_engine_waiting", "herdsman_engine_cache_bytes_used"))
    }


@pytest.mark.parametrize("path", PATHS[:3])
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_vanishes_frees_its_slot(server: Server, path: str, stream: bool) -> None:
    given: Any = {
        PATHS[0]: {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1900, "n": 3},
        PATHS[1]: {"prompt": ["x", "y"], "max_tokens": 1900},
        PATHS[2]: {"input": "x", "max_output_tokens": 1900},
    }[path]
    # No token ends this text: without the client leaving it would be written to the last one.
    body = {"model": "random", "stream": stream, "logit_bias": {}, "stop": [], "seed": 1, **given}
    if path == PATHS[2]:
        del body["logit_bias"]
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(data)}\r\n\r\n"
    before = tokens_written(server)
    address = urlsplit(server.address)
    connection = socket.create_connection((address.hostname, address.port))
    connection.sendall(head.encode() + data)
    if stream:
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    else:
        deadline = time.monotonic() + 10
        while tokens_written(server) == before:
            assert time.monotonic() < deadline
    connection.close()
    deadline = time.monotonic() + 10
    while any(used_bytes(server).values()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def tokens_written(server: Server) -> float:
    lines = httpx.get(f"{server.address}/metrics").text.splitlines()
    return sum(float(line.split(" ")[1]) for line in lines if line.startswith("herdsman_engine_tokens_generated_total"))
