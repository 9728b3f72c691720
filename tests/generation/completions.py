"""A small server of OpenAI's completions over one of our engines, with the additions that vLLM made to them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from herdsman.generation.constraint import Constraint
from herdsman.generation.engine import Piece, TokenLogprob
from herdsman.generation.local import LocalEngine
from herdsman.generation.sampling import Sampling


@dataclass
class Completions:
    """What the server was asked, and what it is to do instead of answering."""

    engine: LocalEngine
    address: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    closed: int = 0
    cut_stream: bool = False


@contextmanager
def serve(engine: LocalEngine) -> Iterator[Completions]:
    state = Completions(engine)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append(body | {"path": self.path, "key": self.headers.get("Authorization")})
            if state.failures:
                self.answer({"error": {"message": "not now"}}, state.failures.pop(0))
            elif self.path == "/v1/chat/completions":
                self.answer({"choices": [{"message": {"role": "assistant", "content": "Yes."}}]})
            elif body.get("echo"):
                self.answer({"choices": [echo(engine, body)]})
            elif body.get("stream"):
                self.stream(body)
            else:
                pieces = list(engine.stream(body["prompt"], sampling(body)))
                whole = Piece("".join(piece.text for piece in pieces), sum((piece.ids for piece in pieces), ()),
                              sum((piece.logprobs or () for piece in pieces), ()), pieces[-1].finish)  # fmt: skip
                self.answer({"choices": [choice(engine, body, whole)]})

        def answer(self, value: object, status: int = 200) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def stream(self, body: dict[str, Any]) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Connection", "close")
            self.end_headers()
            try:
                for piece in engine.stream(body["prompt"], sampling(body)):
                    event = {"choices": [choice(engine, body, piece)]}
                    self.send_chunk(f"data: {json.dumps(event)}\n\n".encode())
                    self.wfile.flush()
                    if state.cut_stream:
                        break
                else:
                    self.send_chunk(b"data: [DONE]\n\n")
                self.send_chunk(b"")
            except OSError:
                state.closed += 1
            self.close_connection = True

        def send_chunk(self, data: bytes) -> None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.address = f"http://127.0.0.1:{server.server_port}/v1"
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def sampling(body: dict[str, Any]) -> Sampling:
    form = body.get("response_format")
    constraint = None
    if form and form["type"] == "json_schema":
        constraint = Constraint("json_schema", json.dumps(form["json_schema"]["schema"]))
    if "structured_outputs" in body:
        constraint = Constraint("regex", body["structured_outputs"]["regex"])
    stops = body.get("stop_token_ids")
    return Sampling(
        max_new_tokens=body["max_tokens"],
        temperature=body["temperature"],
        top_p=body["top_p"],
        top_k=body.get("top_k", 0),
        min_p=body.get("min_p", 0.0),
        repetition_penalty=body.get("repetition_penalty", 1.0),
        presence_penalty=body["presence_penalty"],
        frequency_penalty=body["frequency_penalty"],
        logit_bias={int(id): bias for id, bias in body.get("logit_bias", {}).items()},
        stop=tuple(body.get("stop", ())),
        stop_ids=None if stops is None else frozenset(stops),
        logprobs=body.get("logprobs"),
        seed=body["seed"],
        constraint=constraint,
    )


def choice(engine: LocalEngine, body: dict[str, Any], piece: Piece) -> dict[str, Any]:
    found: dict[str, Any] = {"text": piece.text, "finish_reason": piece.finish}
    if body.get("return_token_ids"):
        found["token_ids"] = piece.ids
    if piece.logprobs is not None and body.get("logprobs") is not None:
        found["logprobs"] = logprobs(engine, body, list(piece.logprobs))
    return found


def echo(engine: LocalEngine, body: dict[str, Any]) -> dict[str, Any]:
    found = engine.prompt_logprobs(body["prompt"], body["logprobs"])
    table = logprobs(engine, body, found[1:])
    table = {name: [None, *values] for name, values in table.items()}
    return {"text": engine.tokenizer.decode(body["prompt"]), "finish_reason": "length", "logprobs": table}


def logprobs(engine: LocalEngine, body: dict[str, Any], found: list[TokenLogprob]) -> dict[str, Any]:
    def name(id: int) -> str:
        return f"token_id:{id}" if body.get("return_tokens_as_token_ids") else engine.tokenizer.decode([id])

    return {
        "tokens": [name(each.id) for each in found],
        "token_logprobs": [each.logprob for each in found],
        "top_logprobs": [{name(id): value for id, value in each.top} for each in found],
    }
