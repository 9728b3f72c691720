"""The command line, thin: reads arguments, calls the library, turns errors into one sentence and an exit status."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from herdsman import __version__
from herdsman.errors import HerdsmanError, InputError, RecipeError, WorkspaceError, machine_error
from herdsman.progress import Progress
from herdsman.recipe import load_recipe
from herdsman.workspace import STARTED, Workspace

app = typer.Typer(
    help="Raise a herd of language models from raw web pages, the way Llama 3 was raised.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
# A table in a pipe or a file must not be cut at some terminal's width.
out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)

RecipeArgument = Annotated[Path, typer.Argument(help="A recipe file, such as recipes/tiny.toml.")]
WorkspaceArgument = Annotated[Path, typer.Argument(help="A herd's folder, such as herds/tiny.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key, such as --set seed=2.")
]


@app.command("raise")
def raise_(
    recipe: RecipeArgument,
    workspace: Annotated[Path | None, typer.Option(help="Where results go; herds/NAME if left out.")] = None,
    until: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
    set: SetOption = None,
) -> None:
    """Do it: run every stage of the recipe, from pages to a chat model. Run again to resume."""
    from herdsman.stages import default_workspace, raise_herd

    loaded = load_recipe(recipe, set)
    root = workspace or default_workspace(loaded)
    progress = Progress()
    progress.line(f"Raising {loaded.name} into {root}")
    try:
        did = raise_herd(loaded, Workspace(root), progress, until)
    except KeyboardInterrupt:
        _fail("stopped; run the same command to go on where it stopped", 130)
    progress.line("Done." if did else "Nothing to do: every stage stands.")
    if until is None:
        progress.line(f"  report: {root / 'report.html'}\n  talk to it: herdsman chat {root}")


@app.command()
def join(
    recipe: RecipeArgument,
    workspace: Annotated[Path | None, typer.Option(help="That of the raise; herds/NAME if left out.")] = None,
    set: SetOption = None,
) -> None:
    """Take part, on a further machine, in the pretraining of a raise on several; waits until it begins."""
    from herdsman.ranks import join as take_part
    from herdsman.stages import default_workspace

    loaded = load_recipe(recipe, set)
    try:
        did = take_part(loaded, Workspace(workspace or default_workspace(loaded)), Progress())
    except KeyboardInterrupt:
        _fail("stopped; run the same command to take part again", 130)
    Progress().line("Done." if did else "Nothing to do: pretraining is done.")


@app.command()
def plan(recipe: RecipeArgument, json_: JsonOption = False, set: SetOption = None) -> None:
    """What will this recipe take? Exact parameters, training tokens and FLOPs."""
    from herdsman.cluster.plan import plan as make_plan

    loaded = load_recipe(recipe, set)
    result = make_plan(loaded.model, loaded.tokenizer.vocab_size, loaded.pretrain)
    if json_:
        print(json.dumps({"recipe": loaded.name} | result.as_json(), indent=1))
        return
    parameters = result.parameters
    out.print(
        f"{loaded.name}: {parameters.total:,} parameters, {result.tokens:,} training tokens, {result.steps:,} steps"
    )
    out.print(
        f"  parameters: embedding {parameters.embedding:,}, attention {parameters.attention:,}, "
        f"feed-forward {parameters.feed_forward:,}, norms {parameters.norms:,}, output {parameters.output:,}"
    )
    out.print(f"  vocabulary: {result.vocab_size:,} rows; {result.chinchilla_multiple:.2f} x Chinchilla's tokens")
    out.print(
        f"  training: {result.flops_6nd:.4g} FLOPs by 6ND; {result.flops:.4g} with attention and no embedding look-up"
    )
    rates = result.rates
    warmup = loaded.pretrain.warmup_tokens
    length = f"{rates.warmup_steps:,} steps" if warmup is None else f"{warmup:,} tokens"
    by_size = f" (by the model's size: {', '.join(rates.by_size)})" if rates.by_size else ""
    out.print(
        f"  learning rate: up to {rates.peak_learning_rate:.3g} in {length}, "
        f"down to {rates.final_learning_rate:.3g}{by_size}"
    )
    table = Table("phase", "steps", "tokens", "batch tokens", "sequence", "FLOPs", box=None, pad_edge=False)
    for phase in result.phases:
        table.add_row(
            phase.name,
            f"{phase.steps:,}",
            f"{phase.tokens:.4g}",
            f"{phase.batch_tokens:,}",
            f"{phase.sequence_length:,}",
            f"{phase.flops:.4g}",
        )
    out.print(table)
    if most := sum(phase.most_tokens for phase in result.phases):
        out.print(f"  gates may prolong this by {most:.4g} tokens at most")


@app.command()
def rehearse(
    recipe: RecipeArgument,
    workspace: Annotated[Path | None, typer.Option(help="Where it runs; herds/NAME-rehearsal if left out.")] = None,
    layout: Annotated[
        str | None, typer.Option(metavar="tensor=2,context=2,...", help="Degrees to rehearse, if not the recipe's.")
    ] = None,
    json_: JsonOption = False,
    set: SetOption = None,
) -> None:
    """Will it work? The same stages, schedule and parallel layout, shrunk to this machine, with a table of proofs."""
    from herdsman.rehearsal import rehearse as run
    from herdsman.training.parallel.layout import LayoutOptions

    loaded = load_recipe(recipe, set)
    degrees = LayoutOptions(**_degrees(layout)) if layout else None
    root = workspace or Path("herds") / f"{loaded.name}-rehearsal"
    progress = Progress()
    progress.line(f"Rehearsing {loaded.name} in {root}")
    try:
        proofs = run(loaded, root, progress, degrees)
    except KeyboardInterrupt:
        _fail("stopped; run the same command to go on where it stopped", 130)
    if json_:
        print(json.dumps([vars(proof) for proof in proofs], indent=1))
    else:
        table = Table("proven", "found", "", box=None, pad_edge=False)
        for proof in proofs:
            table.add_row(proof.what, proof.found, "[green]yes[/]" if proof.holds else "[red]NO[/]")
        out.print(table)
    if not all(proof.holds for proof in proofs):
        raise typer.Exit(1)


def _degrees(text: str) -> dict[str, int]:
    try:
        pairs = [part.split("=") for part in text.split(",")]
        degrees = {axis.strip(): int(degree) for axis, degree in pairs}
    except ValueError:
        degrees = {"": 0}
    axes = ("tensor", "context", "pipeline", "data")
    if not set(degrees) <= set(axes) or any(degree < 1 for degree in degrees.values()):
        raise RecipeError(
            f"is not degrees of {', '.join(axes)}", where=f"--layout {text}", do="write --layout tensor=2,pipeline=2"
        )
    return degrees


@app.command()
def status(workspace: WorkspaceArgument, json_: JsonOption = False) -> None:
    """What is done, what is next, what it cost."""
    from herdsman.cluster.goodput import goodput_of_stage
    from herdsman.events import EVENTS, read_events
    from herdsman.stages import STAGE_NAMES, describe_result

    space = _existing(workspace)
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
    if account:
        out.print(f"time of pretraining: {account.describe()}")


@app.command()
def report(
    workspace: WorkspaceArgument,
    to: Annotated[Path | None, typer.Option(help="Where to write the page; WORKSPACE/report.html if left out.")] = None,
) -> None:
    """Write the report: one self-contained HTML page, of everything that is done so far."""
    from herdsman.release.report import write_report

    space = _existing(workspace)
    target = to or space.root / "report.html"
    write_report(space.root, target)
    out.print(str(target), markup=False, soft_wrap=True)


@app.command()
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

    found = look(_existing(workspace), what, Wanted(name, value, by, language, source, limit))
    if json_:
        print(json.dumps(found, indent=1, ensure_ascii=False))
    elif found:
        show(found, out)
    else:
        out.print("nothing to show")


@app.command("import")
def import_(
    source: Annotated[
        str,
        typer.Argument(help="A Hugging Face folder, a .gguf file, or the id of a model on the Hugging Face Hub."),
    ],
    to: Annotated[Path, typer.Option(help="A new folder for the model and its tokenizer.")],
    json_: JsonOption = False,
) -> None:
    """Bring a Llama from elsewhere into Herdsman's form, to chat with or to train on."""
    from herdsman.model.importing import import_model

    origin = import_model(source, to, Progress())
    if json_:
        print(json.dumps(vars(origin), indent=1))
    else:
        out.print(origin.describe(), markup=False, soft_wrap=True)
        out.print(f"  talk to it: herdsman chat {to}", markup=False, soft_wrap=True)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A herd's folder, or that of an imported model.")],
    to: Annotated[Literal["hf", "gguf", "ollama"], typer.Option(help="For transformers, llama.cpp or Ollama.")],
    target: Annotated[Path, typer.Option("--out", help="A new folder; of gguf the file, such as tiny.gguf.")],
    type_: Annotated[
        Literal["f32", "f16", "bf16", "q8_0"] | None,
        typer.Option("--type", help="How weights are stored: f32 for hf and f16 for gguf and ollama if left out."),
    ] = None,
    stage: Annotated[
        Literal["base", "chat"] | None, typer.Option(help="Of a herd: pretrained or post-trained; chat if left out.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Write a herd's model in the form that other programs run."""
    from herdsman.release.export import export_model

    files = export_model(_existing(model).root, to, target, type_, stage, Progress())
    sizes = {str(path): path.stat().st_size for path in files}
    if json_:
        print(json.dumps({"files": sizes}, indent=1))
        return
    for path, size in sizes.items():
        out.print(f"{path}: {size / 1e6:,.1f} MB", markup=False, soft_wrap=True)


@app.command()
def chat(
    models: Annotated[
        list[str],
        typer.Argument(metavar="FOLDER...", help="Folders of herds and of imported models; the first one answers."),
    ],
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token each time.")] = 0.6,
    top_p: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Sample from the likeliest tokens that reach this mass.")
    ] = 0.9,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, calls of tools included.")] = 400,
    seed: Annotated[int, typer.Option(help="Seed of sampling.")] = 1,
    system: Annotated[str | None, typer.Option(help="A system prompt.")] = None,
    tools: Annotated[
        str,
        typer.Option(
            metavar="LIST", help="Tools that the model may use: of python, search, maths; files of Python functions."
        ),
    ] = "none",
    files: Annotated[Path, typer.Option(help="Where files that tools make are saved, such as plots.")] = Path(
        "herdsman-files"
    ),
    weights: Annotated[
        Literal["auto", "float32", "bfloat16", "int8", "float8"],
        typer.Option(help="The form of the weights in memory."),
    ] = "auto",
    guard: Annotated[bool, typer.Option(help="Check prompts and answers with the herd's guard.")] = True,
    json_: Annotated[bool, typer.Option("--json", help="Print events as JSON, a line each, for programs.")] = False,
) -> None:
    """Talk to the herd in the terminal; reads questions from a pipe too."""
    from herdsman.herd import chat_with

    chat_with(
        models,
        sys.stdin,
        sys.stdout,
        sys.stdout if sys.stdin.isatty() else sys.stderr,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        seed=seed,
        system=system,
        tools=[name for name in tools.split(",") if name not in ("", "none")],
        weights=weights,
        use_guard=guard,
        as_json=json_,
        files=files,
    )


@app.command()
def serve(
    models: Annotated[
        list[str],
        typer.Argument(metavar="FOLDER...", help="Folders of herds and of imported models; NAME=FOLDER names one."),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; others reach only another one than this.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any that is free.")] = 8000,
    tools: Annotated[
        str, typer.Option(metavar="LIST", help="Tools that models may use here: of python, search, maths, or none.")
    ] = "python,search,maths",
    api_keys: Annotated[
        Path | None, typer.Option(help="A file with an API key a line; HERDSMAN_API_KEY may hold one too.")
    ] = None,
    weights: Annotated[
        Literal["auto", "float32", "bfloat16", "int8", "float8"],
        typer.Option(help="The form of the weights in memory."),
    ] = "auto",
    cache_megabytes: Annotated[
        int | None, typer.Option(min=1, help="Memory of each model's cache of keys and values.")
    ] = None,
    requests_per_minute: Annotated[int, typer.Option(min=0, help="Most requests from one caller; 0: no limit.")] = 0,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A further name of this server, such as that of a proxy before it.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="A web site whose pages may use the API, such as https://example.org.")
    ] = None,
) -> None:
    """Serve models: OpenAI's API for programs, and a page to chat on for people."""
    from herdsman.herd import serve_models
    from herdsman.serving.options import ServerOptions

    options = ServerOptions(
        host=host,
        port=port,
        tools=_tool_names(tools),
        weights=weights,
        cache_bytes=None if cache_megabytes is None else cache_megabytes * 2**20,
        requests_per_minute=requests_per_minute,
        allow_hosts=tuple(allow_host or ()),
        allow_origins=tuple(allow_origin or ()),
    )
    serve_models(models, options, api_keys)


def _tool_names(text: str) -> tuple[Any, ...]:
    names = [name.strip() for name in text.split(",") if name.strip() not in ("", "none")]
    known = ("python", "search", "maths")
    if unknown := [name for name in names if name not in known]:
        raise InputError(
            f"there is no tool {unknown[0]!r}", where="--tools", do=f"choose of {', '.join(known)}, or none"
        )
    return tuple(names)


@app.command()
def doctor(json_: JsonOption = False) -> None:
    """What this machine can do, and what a raise will miss."""
    from herdsman.cluster.doctor import examine
    from herdsman.tools.sandbox import choose

    findings = list(examine(Path("herds"), choose.findings))
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


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if show:
        print(f"herdsman {__version__}")
        raise typer.Exit


def _existing(root: Path) -> Workspace:
    if not root.is_dir():
        raise WorkspaceError(
            "there is no herd here", where=root, do="raise one first: herdsman raise recipes/tiny.toml"
        )
    return Workspace(root)


def main(arguments: list[str] | None = None) -> Any:
    """Entry point: runs a command; a user's mistake or a machine's limit becomes one sentence on standard error."""
    try:
        return app(arguments, standalone_mode=True)
    except HerdsmanError as error:
        _fail(str(error), error.exit_status)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except MemoryError:
        _fail(
            "memory ran out; close other programs or choose a smaller recipe, then run again: finished work is kept", 1
        )
    except OSError as error:
        known = machine_error(error)
        if known is None:
            raise
        _fail(str(known), known.exit_status)


def _fail(sentence: str, status: int) -> NoReturn:
    Console(stderr=True, highlight=False).print(f"herdsman: {sentence}", markup=False, soft_wrap=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
