from __future__ import annotations

import re
from pydoc_data import topics

import pytest

from herdsman.synthesis.material import Material, gather_material

GLOSSARY = """Glossary

list
A built-in Python sequence. Despite its name it is more akin to an array.

object
Any data with state (attributes or value) and defined behavior (methods).

GIL
See global interpreter lock.

metaclass
The class of a class."""

ASYNCIO = """The asyncio module is a library to write concurrent code using the async and await syntax.
A decorator is a function that returns another function and is usually applied with the at sign.
The call may raise a TimeoutError. Use asyncio.wait_for when a call may take long and must be cut short.
The call asyncio.wait_for waits for the awaitable to complete with a timeout that is given in seconds.
A slow caller can kill the process, and the loop will drop a connection of its own accord."""


def rows() -> list[dict[str, str]]:
    """Documents that every Python carries, one paragraph a line, a glossary and the page of a module."""
    texts = {
        f"Topic {name}": "\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
        for name, text in topics.topics.items()
    }
    texts |= {"Glossary": GLOSSARY, "18.5. asyncio — Asynchronous I/O": ASYNCIO}
    return [
        {"id": f"{number:032x}", "title": title, "text": text, "licence": "PSF-2.0"}
        for number, (title, text) in enumerate(texts.items())
    ]


@pytest.fixture(scope="session")
def library() -> dict[str, str]:
    return {row["id"]: row["text"] for row in rows()}


@pytest.fixture(scope="session")
def material() -> Material:
    found = gather_material(rows())
    assert found.enough
    return found
