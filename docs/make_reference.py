"""Writes docs/recipe.md from the recipe's schema: `make docs`."""

from __future__ import annotations

import json
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from herdsman.options import Options
from herdsman.recipe import Recipe

HEAD = """# The recipe

After reading this page you can write a recipe of your own: every key a recipe may hold, what it means, and its default.
This page is generated from the code (`make docs`), so it is never out of date.

A recipe is a TOML file. Start from one in `recipes/` and change what you need, or override single keys on the command
line: `herdsman raise recipes/tiny.toml --set seed=2 --set pretrain.peak_learning_rate=0.001`. A key that is not listed
here is refused, with its line and the closest known key. The `machine` section never changes results' fingerprints;
changing any other key redoes the stages that depend on it, and only those.
"""


def reference() -> str:
    parts = [HEAD]
    queue: list[tuple[str, type[Options]]] = [("", Recipe)]
    while queue:
        section, model = queue.pop(0)
        children: list[tuple[str, type[Options]]] = []
        rows = []
        for name, field in model.model_fields.items():
            path = f"{section}.{name}" if section else name
            child, repeated = nested(field.annotation)
            if child is not None:
                children.append((path, child))
            anchor = path.replace(".", "")
            kind = f"[table{'s' if repeated else ''}](#{anchor})" if child else type_name(field.annotation)
            rows.append(
                f"| `{name}` | {kind} | {default_of(field, child)} | {limits(field)}{field.description or ''} |"
            )
        title = f"`[{section}]`" if section else "Top level"
        note = (model.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
        parts.append(f'\n## {title}\n\n<a id="{section.replace(".", "")}"></a>{" ".join(note.split())}\n')
        parts.append("| key | type | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n")
        queue = children + queue
    return "\n".join(parts)


def nested(annotation: Any) -> tuple[type[Options] | None, bool]:
    """The options model in an annotation, and whether it is a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, Options):
        return annotation, False
    for argument in get_args(annotation):
        found, _ = nested(argument)
        if found:
            return found, get_origin(annotation) in (list, tuple)
    return None, False


def type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{json.dumps(value)}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(type_name(argument) for argument in arguments if argument is not type(None))
    if origin in (list, tuple):
        return f"list of {type_name(arguments[0])}"
    if origin is dict:
        return f"table of {type_name(arguments[1])}"
    return {"str": "string", "float": "number", "int": "whole number", "bool": "true or false"}.get(
        getattr(annotation, "__name__", str(annotation)), str(annotation)
    )


def default_of(field: FieldInfo, child: type[Options] | None) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined:
        return "none"
    return "its own defaults" if child else f"`{json.dumps(value)}`".replace("|", "\\|")


def limits(field: FieldInfo) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = [
        f"{signs[key]} {getattr(m, key)}" for m in field.metadata for key in signs if getattr(m, key, None) is not None
    ]
    return f"({', '.join(found)}) " if found else ""


if __name__ == "__main__":
    Path(__file__).with_name("recipe.md").write_text(reference(), encoding="utf-8")
