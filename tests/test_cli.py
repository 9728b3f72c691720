"""The command line: every mistake of a user gives one sentence and a status, and nothing half-written."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, Herdsman

TINY = ROOT / "recipes" / "tiny.toml"


def one_sentence(result: subprocess.CompletedProcess[str]) -> str:
    """The complaint of a failed command: its last line, with no traceback anywhere."""
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("herdsman: "), result.stderr
    return last


def test_help_of_every_command(herdsman: Herdsman) -> None:
    assert "raise" in herdsman("--help").stdout
    for command in ("raise", "join", "plan", "status", "report", "inspect", "import", "export", "chat", "doctor"):
        result = herdsman(command, "--help")
        assert result.returncode == 0
        assert "Usage" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["raise", "none.toml"], "none.toml: cannot be read"),
        (["raise", TINY, "--set", "modle.layers=2"], "unknown key modle; did you mean model?"),
        (["raise", TINY, "--set", "model.layers=two"], "model.layers: input should be a valid integer"),
        (["raise", TINY, "--until", "everything"], "no stage is called everything"),
        (["raise", TINY, "--set", "pages.sources=['/no/such.warc.gz']"], "/no/such.warc.gz: no such file"),
        (["raise", TINY, "--set", "pages.sources=['https://example.com/']"], "not the address of a WARC file"),
        (["status", "nowhere"], "nowhere: there is no herd here"),
        (["chat", "nowhere"], "nowhere: there is no herd here"),
        (["report", "nowhere"], "nowhere: there is no herd here"),
    ],
)
def test_mistakes(
    herdsman: Herdsman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[object], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in one_sentence(herdsman(*arguments))
    assert not list(tmp_path.rglob("*.parquet"))


def test_empty_workspace_says_what_to_do(herdsman: Herdsman, tmp_path: Path) -> None:
    assert "this herd has no model yet" in one_sentence(herdsman("chat", tmp_path))
    assert "documents stage is not finished" in one_sentence(herdsman("inspect", tmp_path, "dropped"))
    assert "choose from dropped" in one_sentence(herdsman("inspect", tmp_path, "everything"))
    assert "next: pages" in herdsman("status", tmp_path).stdout


def test_no_network(herdsman: Herdsman, tmp_path: Path) -> None:
    settings = {"HERDSMAN_CACHE": str(tmp_path / "cache"), "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": ""}
    result = herdsman("raise", TINY, "--workspace", tmp_path / "herd", **settings, **nowhere)
    assert "check the network" in one_sentence(result)
    assert not list((tmp_path / "cache").rglob("*.tar.gz"))
    assert not (tmp_path / "herd" / "pages" / "manifest.json").exists()


def test_hostile_pages_are_counted_and_nothing_is_lost(herdsman: Herdsman, tmp_path: Path, html_folder: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "empty.html").write_bytes(b"")
    (site / "noise.html").write_bytes(bytes(os.urandom(20_000)))
    (site / "deep.html").write_bytes(b"<div>" * 100_000 + b"end")
    for page in sorted(html_folder.rglob("*.html"))[:12]:
        (site / page.name).write_bytes(page.read_bytes())
    (tmp_path / "cut.warc.gz").write_bytes(b"\x1f\x8b\x08\x00" + b"\x00" * 40)
    (tmp_path / "empty.warc").write_bytes(b"")
    sources = [str(site), str(tmp_path / "cut.warc.gz"), str(tmp_path / "empty.warc")]
    herd = tmp_path / "herd"
    result = herdsman(
        "raise", TINY, "--workspace", herd, "--until", "documents", "--set", f"pages.sources={json.dumps(sources)}"
    )
    assert result.returncode == 0, result.stderr
    skipped = json.loads((herd / "pages" / "summary.json").read_text())["skipped"]
    assert sum(skipped.values()) >= 3
    status = json.loads(herdsman("status", herd, "--json").stdout)
    assert status["next"] == "tokenizer"
    counts = status["stages"]["documents"]["counts"]
    assert counts["pages"] == counts["documents"] + counts["dropped"]
    dropped = json.loads(herdsman("inspect", herd, "dropped", "--json", "--limit", "1000").stdout)
    assert len(dropped) == counts["dropped"]
    assert all(row["dropped_by"] and row["reason"] for row in dropped)
    assert "choose from" in one_sentence(herdsman("inspect", herd, "dropped", "--by", "magic"))


def test_a_disk_that_refuses_to_write(tmp_path: Path, html_folder: Path) -> None:
    """A file-size limit makes writing fail as a full disk does: at any write, with an error of the system."""
    herd = tmp_path / "herd"
    command = [sys.executable, "-m", "herdsman", "raise", str(TINY), "--workspace", str(herd), "--until", "pages"]
    command += ["--set", f"pages.sources=[{str(html_folder)!r}]"]
    limited = subprocess.run(
        command,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert "finished work is kept" in one_sentence(limited)
    assert not list(herd.rglob("*.parquet")), "a file that could not be written whole must not be there"
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_two_at_once(tmp_path: Path, herdsman: Herdsman) -> None:
    from herdsman.workspace import Workspace

    with Workspace(tmp_path).locked():
        assert "another herdsman is at work here" in one_sentence(herdsman("raise", TINY, "--workspace", tmp_path))


def test_ctrl_c_stops_with_one_sentence(tmp_path: Path, html_folder: Path) -> None:
    herd = tmp_path / "herd"
    command = [sys.executable, "-m", "herdsman", "raise", str(TINY), "--workspace", str(herd)]
    process = subprocess.Popen(
        [*command, "--set", f"pages.sources=[{str(html_folder)!r}]"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None and not (herd / "documents" / "scratch").exists():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert one_sentence(subprocess.CompletedProcess(command, 130, "", said)).endswith("go on where it stopped")
    assert json.loads((herd / "events.jsonl").read_text().splitlines()[-1])["event"] == "stopped"
