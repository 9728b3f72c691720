"""A server on this machine that speaks the OpenAI chat protocol, computes its answers from the text, and has faults."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.local_server import running


@dataclass
class JudgeServer:
    """What the server answers and what it was asked.

    Attributes:
        answer: from question and text of the document to what the model says.
        faults: what befalls the next requests: a status, "nonsense" (no JSON), "other" (JSON without an answer) or
            "break" (the connection ends within the answer).
        delay: seconds that an answer takes, from the text.
        asked: how often each question and text was answered.
    """

    answer: Callable[[str, str], str]
    address: str = ""
    faults: list[int | str] = field(default_factory=list)
    delay: Callable[[str], float] = lambda text: 0.0
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    bodies: list[dict[str, object]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)


@contextmanager
def serve(answer: Callable[[str, str], str]) -> Iterator[JudgeServer]:
    judge = JudgeServer(answer)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text, question = re.fullmatch(
                r"<document>\n(.*)\n</document>\n\n(.*)", body["messages"][-1]["content"], re.DOTALL
            ).groups()
            with lock:
                fault = judge.faults.pop(0) if judge.faults else None
                judge.keys.add(self.headers.get("Authorization", ""))
                judge.bodies.append(body)
                if fault is None:
                    judge.asked[question, text] += 1
            time.sleep(judge.delay(text))
            said = {"choices": [{"message": {"role": "assistant", "content": judge.answer(question, text)}}]}
            content = b"<html>" if fault == "nonsense" else json.dumps({} if fault == "other" else said).encode()
            self.send_response(fault if isinstance(fault, int) else 200)
            if fault == 429:
                self.send_header("Retry-After", "0.05")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:9] if fault == "break" else content)
            self.close_connection = fault == "break"

        def log_message(self, *arguments: object) -> None:
            pass

    with running(Handler) as address:
        judge.address = f"{address}/v1"
        yield judge
