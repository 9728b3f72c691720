"""The commands that show: status, report, inspect, doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from herdsman.commands.shared import JsonOption, WorkspaceArgument, existing, file_to_write, out
from herdsman.workspace import STARTED


def status(workspace: WorkspaceArgument, json_: JsonOption = False) -> None:
    """What is done, what is next, what it cost."""
    from herdsman.cluster.goodput import goodput_of_stage
    from herdsman.events import EVENTS, read_events
    from herdsman.release.plan_text import planned_time
    from herdsman.stages import STAGE_NAMES, describe_result

    space = existing(workspace)
    manifests = {name: space.manifest(name) for name in STAGE_NAMES}
    states = {
        name: "done" if manifest else "unfinished" if (space.folder(name) / STARTED).exists() else "waiting"
        for name, manifest in manifests.items()
    }
    following = next((name for name in STAGE_NAMES if states[name] != "done"), None)
    account = goodput_of_stage(read_events(space.root / EVENTS), "pretrain")
    keys = ("counts", "wall_seconds", "cpu_seconds", "peak_memory_bytes", "sessions", "digest")
    if json_:
        details: dict[str, dict[str, Any]] = {
            n: {"state": states[n]} | {k: m[k] for k in keys} if m else {"state": states[n]}
            for n, m in manifests.items()
        }
        if account:
            details["pretrain"]["goodput"] = vars(account) | {"effective": account.effective}
        print(json.dumps({"next": following, "stages": details}, indent=1))
        return
    table = Table("stage", "state", "wall", "CPU", "memory", "result", box=None, pad_edge=False)
    for name, manifest in manifests.items():
        if manifest is None:
            table.add_row(name, states[name], "", "", "", "")
            continue
        table.add_row(
            name,
            "done",
            f"{manifest['wall_seconds']:,.0f} s",
            f"{manifest['cpu_seconds']:,.0f} s",
            f"{manifest['peak_memory_bytes'] / 2**20:,.0f} MiB",
            describe_result(space, name),
        )
    out.print(table)
    done = [manifest for manifest in manifests.values() if manifest]
    wall, cpu = (sum(m[key] for m in done) for key in ("wall_seconds", "cpu_seconds"))
    out.print(
        f"cost so far: {wall / 60:.1f} minutes, {cpu / 3600:.2f} CPU-hours; "
        f"next: {following or 'nothing, the herd is raised'}"
    )
    if expected := planned_time(space.root):
        out.print(f"time of pretraining, as planned: {expected}")
    if account:
        out.print(f"time of pretraining: {account.describe()}")


def report(
    workspace: WorkspaceArgument,
    to: Annotated[
        Path | None,
        typer.Option(callback=file_to_write, help="Where to write the page; WORKSPACE/report.html if left out."),
    ] = None,
) -> None:
    """Write the report: one self-contained HTML page, of everything that is done so far."""
    from herdsman.release.report import write_report

    space = existing(workspace)
    target = to or space.root / "report.html"
    write_report(space.root, target)
    out.print(str(target), markup=False, soft_wrap=True)


def inspect(
    workspace: WorkspaceArgument,
    what: Annotated[str, typer.Argument(help="dropped, document, duplicates, threshold or samples.")] = "dropped",
    name: Annotated[
        str | None, typer.Argument(help="A document's address or the beginning of its id; of threshold: which one.")
    ] = None,
    value: Annotated[float | None, typer.Argument(help="Of threshold: the value to try.")] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="Only what this filter dropped; duplicates by url, near or semantic; samples of this family."
        ),
    ] = None,
    language: Annotated[str | None, typer.Option(help="Only documents in this language (dropped, duplicates).")] = None,
    source: Annotated[str | None, typer.Option(help="Only documents from this source (dropped, duplicates).")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many to show.")] = 20,
    json_: JsonOption = False,
) -> None:
    """Look at single decisions, or ask what another threshold would do.

    \b
    inspect WORKSPACE dropped               documents that were dropped, with reasons
    inspect WORKSPACE document ADDRESS      what happened to one document at each step
    inspect WORKSPACE duplicates            duplicates beside their twins: [-only here-] {+only in the twin+}
    inspect WORKSPACE threshold NAME        how a measure is spread, and what several thresholds would drop
    inspect WORKSPACE threshold NAME VALUE  what this threshold would change, without running anything again
    inspect WORKSPACE samples               samples of post-training, with origin and checks
    """
    from herdsman.inspection import Wanted, look, show

    found = look(existing(workspace), what, Wanted(name, value, by, language, source, limit))
    if json_:
        print(json.dumps(found, indent=1, ensure_ascii=False))
    elif found:
        show(found, out)
    else:
        out.print("nothing to show")


def doctor(json_: JsonOption = False) -> None:
    """What this machine can do, and what a raise will miss."""
    from herdsman.cluster.doctor import examine
    from herdsman.generation.native import build
    from herdsman.tools.sandbox import choose

    findings = list(examine(Path("herds"), build.findings, choose.findings))
    if json_:
        print(json.dumps([vars(finding) for finding in findings], indent=1))
    else:
        table = Table(box=None, show_header=False, pad_edge=False)
        colours = {"ok": "green", "note": "yellow", "bad": "red"}
        for finding in findings:
            table.add_row(f"[{colours[finding.state]}]{finding.state}", finding.name, escape(finding.text))
        out.print(table)
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)
