"""The event log: one file of JSON lines that says what happened when, written by every part, only ever appended to.

Every line holds:

    time               local time, for people
    event              the kind
    unix_seconds       wall clock, to compare lines of different processes and machines
    monotonic_seconds  a clock that never jumps, to measure within one process

and the fields of its kind. `cluster/goodput.py` sums a training stage's lines up; docs/reliability.md lists the kinds.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

EVENTS = "events.jsonl"


class EventLog:
    """Appends events to a file.

    A line is one write to a file opened for appending, so lines of several processes never mix.

    Args:
        path: the file; made with the first event.
        common: fields of every line, such as the stage, the attempt and the number of ranks.
    """

    def __init__(self, path: Path, **common: Any):
        self.path, self.common = path, common

    def write(self, kind: str, **fields: Any) -> None:
        now = time.time()
        row = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(now)),
            "event": kind,
            "unix_seconds": round(now, 6),
            "monotonic_seconds": round(time.monotonic(), 6),
            **self.common,
            **fields,
        }
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, (json.dumps(row, ensure_ascii=False) + "\n").encode())
        finally:
            os.close(file)


def read_events(path: Path, stage: str | None = None) -> list[dict[str, Any]]:
    """Events in the order they were written, of one stage or of all; none if there is no file yet.

    A line cut short, where a machine or a disk failed in the middle of it, is passed over: the rest still counts.
    """
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and (stage is None or row.get("stage") == stage):
            rows.append(row)
    return rows
