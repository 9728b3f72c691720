"""The commands that move models and put them to work: import, export, chat, serve."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from herdsman.commands.shared import JsonOption, WeightsOption, existing, out
from herdsman.errors import InputError
from herdsman.progress import Progress


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

    files = export_model(existing(model).root, to, target, type_, stage, Progress())
    sizes = {str(path): path.stat().st_size for path in files}
    if json_:
        print(json.dumps({"files": sizes}, indent=1))
        return
    for path, size in sizes.items():
        out.print(f"{path}: {size / 1e6:,.1f} MB", markup=False, soft_wrap=True)


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
    weights: WeightsOption = "auto",
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
    weights: WeightsOption = "auto",
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
