"""Fixtures shared by the tests of the crawler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from herdsman.pages import visitor
from tests.pages.site import Site, serve_site


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(visitor, "FIRST_PAUSE_SECONDS", 0.001)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site without files, for a test to fill."""
    monkeypatch.setenv("HERDSMAN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "nothing").mkdir()
    with serve_site(tmp_path / "nothing") as site:
        yield site
