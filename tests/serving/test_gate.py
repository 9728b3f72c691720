"""Who may come in, how often and with how much; and that what is refused is refused in OpenAI's form."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from herdsman.errors import InputError, MachineError
from herdsman.serving.containers import Containers
from herdsman.serving.gate import Rate
from herdsman.serving.keys import check_keys, read_keys
from herdsman.serving.models import Models
from herdsman.serving.options import ServerOptions
from herdsman.serving.server import Server, make_server
from herdsman.serving.toolbox import Toolbox
from tests.serving.served import no_tool, serving

CHAT = "/v1/chat/completions"
BODY: Any = {"model": "parrot", "messages": [{"role": "user", "content": "hello"}], "temperature": 0}


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert "\n" not in error["message"]
    return error


@pytest.fixture(scope="module")
def guarded(model_folders: list[Path]) -> Iterator[Server]:
    """A server with keys, narrow limits, and a web site that may use it."""
    options = ServerOptions(
        body_bytes=4096,
        body_seconds=0.5,
        most_requests=2,
        allow_hosts=("herd.example",),
        allow_origins=("https://site.example",),
    )
    with serving(model_folders, options, keys=["first-key", "second-key"]) as server:
        yield server


def post(server: Server, key: str | None = "first-key", **more: Any) -> httpx.Response:
    headers = ({"Authorization": f"Bearer {key}"} if key else {}) | more.pop("headers", {})
    return httpx.post(server.address + CHAT, headers=headers, **({"json": BODY} | more))


def test_only_who_has_a_key_comes_in(guarded: Server) -> None:
    assert post(guarded).status_code == post(guarded, "second-key").status_code == 200
    for key in (None, "", "wrong", "first-ke", "first-keyy", "ключ"):
        answer = httpx.post(
            guarded.address + CHAT, json=BODY, headers={"Authorization": f"Bearer {key}".encode()} if key else {}
        )
        assert error_of(answer, 401)["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{guarded.address}/v1", api_key="wrong", max_retries=0).models.list()
    for path in ("/v1/models", "/metrics", "/tokenizer_info", "/nowhere"):
        error_of(httpx.get(guarded.address + path), 401)
    for path in ("/", "/health"):
        assert httpx.get(guarded.address + path).status_code == 200


def test_keys_come_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text("# of the team\none\n\n two \n")
    monkeypatch.setenv("HERDSMAN_API_KEY", "three")
    assert read_keys(file) == ["three", "one", "two"]
    monkeypatch.delenv("HERDSMAN_API_KEY")
    assert read_keys(None) == []
    file.write_text("\n")
    for path in (file, tmp_path / "none"):
        with pytest.raises(InputError):
            read_keys(path)


def test_nobody_elses_machine_comes_in_without_a_key(model_folders: list[Path]) -> None:
    for host in ("0.0.0.0", "::", "10.1.2.3", "herd.example"):
        with pytest.raises(InputError, match="HERDSMAN_API_KEY"):
            check_keys(ServerOptions(host=host), [])
        check_keys(ServerOptions(host=host), ["k"])
    for host in ("127.0.0.1", "::1", "localhost"):
        check_keys(ServerOptions(host=host), [])
    with serving(model_folders, ServerOptions(host="0.0.0.0"), keys=["k"]) as server:
        port = urlsplit(server.address).port
        anywhere = {"Host": "any.example", "Authorization": "Bearer k"}
        assert httpx.get(f"http://127.0.0.1:{port}/v1/models", headers=anywhere).status_code == 200


def test_a_port_that_is_taken(server: Server) -> None:
    options = ServerOptions(port=urlsplit(server.address).port or 0)
    models = Models({}, "cpu", options)
    with pytest.raises(MachineError, match="cannot listen"):
        make_server(models, options, Toolbox({}, no_tool, Containers(options)))


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1", "10.0.0.1"]
)
def test_a_name_that_was_made_to_point_here_is_refused(server: Server, host: str) -> None:
    answer = httpx.get(f"{server.address}/v1/models", headers={"Host": host})
    assert error_of(answer, 403)["code"] == "host_not_allowed"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1", "[::1]:8000", "127.9.9.9"])
def test_names_of_this_machine_are_let_in(server: Server, host: str) -> None:
    assert httpx.get(f"{server.address}/v1/models", headers={"Host": host}).status_code == 200


def test_pages_of_other_sites_may_not_use_the_server(server: Server, guarded: Server) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        answer = httpx.post(server.address + CHAT, json=BODY, headers={"Origin": origin})
        assert error_of(answer, 403)["code"] == "origin_not_allowed"
        assert "access-control-allow-origin" not in answer.headers
    own = httpx.post(server.address + CHAT, json=BODY, headers={"Origin": server.address})
    assert own.status_code == 200
    asked = httpx.options(guarded.address + CHAT, headers={"Origin": "https://site.example"})
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-origin"] == "https://site.example"
    let_in = post(guarded, headers={"Origin": "https://site.example", "Host": "herd.example"})
    assert let_in.status_code == 200
    assert let_in.headers["access-control-allow-origin"] == "https://site.example"


def test_a_form_of_another_site_cannot_ask(server: Server) -> None:
    """A page may send these kinds anywhere without being asked for leave."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        answer = httpx.post(server.address + CHAT, content=b"{}", headers={"Content-Type": kind})
        error_of(answer, 415)
    zipped = httpx.post(server.address + CHAT, json=BODY, headers={"Content-Encoding": "gzip"})
    error_of(zipped, 415)


def test_too_long_a_body_is_refused_whether_it_says_its_length_or_not(guarded: Server) -> None:
    long = b'{"model": "' + b"x" * 5000
    kind = {"Content-Type": "application/json"}
    assert error_of(post(guarded, content=long, json=None, headers=kind), 413)["code"] == "request_too_large"
    chunks = (long[start : start + 500] for start in range(0, len(long), 500))
    error_of(post(guarded, content=chunks, json=None, headers=kind), 413)


def test_too_slow_a_body_is_given_up(guarded: Server) -> None:
    def drops() -> Iterator[bytes]:
        for _ in range(20):
            yield b" "
            time.sleep(0.1)

    started = time.monotonic()
    answer = post(guarded, content=drops(), json=None, headers={"Content-Type": "application/json"})
    assert error_of(answer, 408)["code"] == "timeout"
    assert time.monotonic() - started < 10
    assert post(guarded).status_code == 200


def test_a_bucket_lets_so_many_through_and_says_when_the_next_may_come() -> None:
    rate = Rate(60)
    assert [rate.take("a", 0.0) for _ in range(60)] == [0.0] * 60
    assert rate.take("a", 0.0) == pytest.approx(1.0)
    assert rate.take("a", 0.75) == pytest.approx(0.25)
    assert rate.take("b", 0.75) == 0.0
    assert rate.take("a", 1.0) == 0.0
    assert rate.take("a", 1.0) > 0
    assert [rate.take("a", 1000.0) for _ in range(60)] == [0.0] * 60


def test_too_many_requests_are_told_to_come_back(model_folders: list[Path]) -> None:
    with serving(model_folders, ServerOptions(requests_per_minute=2)) as server:
        answers = [httpx.post(server.address + CHAT, json=BODY) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert error_of(answers[2], 429)["code"] == "rate_limit_exceeded"
        assert 1 <= int(answers[2].headers["retry-after"]) <= 30
        assert httpx.get(f"{server.address}/health").status_code == 200


def test_no_more_come_in_than_the_server_takes_on(guarded: Server) -> None:
    """Two that are still sending fill it."""
    address = urlsplit(guarded.address)
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer first-key\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    )
    slow = [socket.create_connection((address.hostname, address.port)) for _ in range(2)]
    for one in slow:
        one.sendall(head.encode())
    time.sleep(0.15)
    answer = post(guarded)
    for one in slow:
        one.close()
    assert error_of(answer, 429)["code"] == "too_many_requests"
    deadline = time.monotonic() + 10
    while post(guarded).status_code != 200:
        assert time.monotonic() < deadline


def test_what_is_not_there(server: Server) -> None:
    error_of(httpx.get(f"{server.address}/v1/nothing"), 404)
    error_of(httpx.get(server.address + CHAT), 405)
    error_of(httpx.post(f"{server.address}/v1/models", json={}), 405)


def test_health_and_figures(server: Server) -> None:
    assert httpx.get(f"{server.address}/health").json() == {"status": "ok"}
    httpx.post(server.address + CHAT, json=BODY)
    lines = httpx.get(f"{server.address}/metrics").text.splitlines()
    figures = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(figures['herdsman_engine_tokens_generated_total{model="parrot"}']) >= 10
    assert float(figures[f'herdsman_requests_total{{path="{CHAT}",status="200"}}']) >= 1
    assert figures['herdsman_engine_running{model="parrot"}'] == "0.0"


def test_a_model_is_opened_once_however_many_ask_for_it(
    model_folders: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "herdsman.serving")
    with serving(model_folders) as server:
        answers: list[int] = []
        asking = [
            threading.Thread(target=lambda: answers.append(httpx.post(server.address + CHAT, json=BODY).status_code))
            for _ in range(6)
        ]
        for one in asking:
            one.start()
        for one in asking:
            one.join()
        assert answers == [200] * 6
    assert [record.getMessage() for record in caplog.records] == ["opening parrot"]
