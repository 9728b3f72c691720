"""Tables of training runs that somebody else did: CSV or JSON, with clear words where they cannot be used."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from herdsman.errors import InputError
from herdsman.scaling.curve import Point

COLUMNS = ("flops", "parameters", "tokens", "loss")
HELP = "give flops, loss, and parameters, tokens or both; flops may be left out where both are there"


def read_points(path: Path) -> list[Point]:
    """Reads a table with the columns flops, parameters, tokens and loss.

    One of flops, parameters and tokens may be left out, it is reckoned by flops = 6 * parameters * tokens. Further
    columns are not looked at. JSON is a list of objects, or an object with such a list under `points`.

    Raises:
        InputError: the file cannot be read, or a row lacks a number.
    """
    rows = read_rows(path)
    if not rows:
        raise InputError("holds no runs", where=path, do=HELP)
    names = [str(name) for name in rows[0][1]]
    if "loss" not in names or len({"flops", "parameters", "tokens"}.intersection(names)) < 2:
        raise InputError(f"its columns are {', '.join(names) or 'missing'}", where=path, do=HELP)
    return [_point(row, place) for place, row in rows]


def read_rows(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """The rows of a table, CSV or JSON, each with where it stands.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"cannot be read ({reason})", where=path, do="check the path") from error
    rows = _json_rows(path, text) if text.lstrip().startswith(("[", "{")) else _csv_rows(path, text)
    return [(f"{path}, {place}", row) for place, row in rows]


def _json_rows(path: Path, text: str) -> list[tuple[str, Mapping[str, Any]]]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError(f"is not valid JSON: {error}", where=path, do="mend it") from error
    rows = found.get("points") if isinstance(found, dict) else found
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError("is not a list of runs", where=path, do='write [{"flops": 6e18, "tokens": 4e9, "loss": 2.9}]')
    return [(f"run {number}", row) for number, row in enumerate(rows, 1)]


def _csv_rows(path: Path, text: str) -> list[tuple[str, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text))
    names = [name.strip() for name in reader.fieldnames or []]
    reader.fieldnames = names
    return [(f"line {reader.line_num}", row) for row in reader]


def _point(row: Mapping[str, Any], place: str) -> Point:
    values: dict[str, float] = {}
    for name in COLUMNS:
        value = row.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        try:
            values[name] = float(value)
        except (TypeError, ValueError):
            raise InputError(f"{name} is {value!r}, not a number", where=place, do="mend it") from None
        if not (math.isfinite(values[name]) and values[name] > 0):
            raise InputError(f"{name} is {value}", where=place, do="give a number above 0, or leave the run out")
    if "loss" not in values or len(values) < 3:
        missing = [name for name in COLUMNS if name not in values]
        raise InputError(f"lacks {' and '.join(missing)}", where=place, do=HELP)
    flops, parameters, tokens = (values.get(name, 0.0) for name in COLUMNS[:3])
    flops = flops or 6 * parameters * tokens
    return Point(flops, parameters or flops / (6 * tokens), tokens or flops / (6 * parameters), values["loss"])
