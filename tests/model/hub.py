"""A Hugging Face Hub on this machine: the few answers its client asks for when it fetches a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.local_server import running

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(models: dict[str, Path | str]) -> Iterator[tuple[str, list[str]]]:
    """Serves folders by model id; a text in place of a folder is the error code of every answer about that model.

    Gives the address and a list that grows with what is asked.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            asked.append(f"{self.command} {path}")
            model_id = "/".join(path.removeprefix("/api/models").strip("/").split("/")[:2])
            found = models.get(model_id, "RepoNotFound")
            if isinstance(found, str):
                self.answer(403 if found == "GatedRepo" else 404, b"{}", {"X-Error-Code": found})
            elif path == f"/api/models/{model_id}/revision/main":
                self.answer(200, json.dumps({"id": model_id, "sha": COMMIT, "siblings": []}).encode())
            elif path == f"/api/models/{model_id}/tree/{COMMIT}":
                files = [file for file in sorted(found.rglob("*")) if file.is_file()]
                rows = [
                    {
                        "type": "file",
                        "path": file.relative_to(found).as_posix(),
                        "size": file.stat().st_size,
                        "oid": hashlib.sha1(file.read_bytes()).hexdigest(),
                    }
                    for file in files
                ]
                self.answer(200, json.dumps(rows).encode())
            else:
                file = found / path.removeprefix(f"/{model_id}/resolve/{COMMIT}/")
                content = file.read_bytes()
                etag = f'"{hashlib.sha1(content).hexdigest()}"'
                self.answer(200, content, {"X-Repo-Commit": COMMIT, "ETag": etag})

        do_HEAD = do_GET

        def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    with running(Handler) as address:
        yield address, asked
