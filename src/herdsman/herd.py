"""A raised herd or an imported model, opened for use: its chat model, tokenizer and guard."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from herdsman.errors import InputError, WorkspaceError
from herdsman.workspace import Workspace

if TYPE_CHECKING:
    from herdsman.generation.engine import Engine
    from herdsman.generation.runner import Weights
    from herdsman.safety.guard import Guard
    from herdsman.serving.options import ServerOptions
    from herdsman.serving.places import Place
    from herdsman.tokens.foreign import ForeignTokenizer
    from herdsman.tokens.tokenizer import Tokenizer


@dataclass
class Herd:
    """What a conversation needs. `guard` is None while the safety stage has not been run, and for imported models."""

    engine: Engine
    tokenizer: Tokenizer | ForeignTokenizer
    guard: Guard | None


def open_herd(workspace: Workspace) -> Herd:
    """Loads the post-trained model of a workspace, or a model that `herdsman import` brought, onto the best device.

    Raises:
        WorkspaceError: post-training has not been finished here.
    """
    from herdsman.serving.places import find_models

    place = next(iter(find_models([str(workspace.root)]).values()))
    if not place.chats:
        raise WorkspaceError(
            "this herd has no chat model yet", where=workspace.root, do="raise it to the end: herdsman raise RECIPE"
        )
    return _open(place)


def _open(place: Place, weights: Weights = "float32") -> Herd:
    from herdsman.generation.local import LocalEngine
    from herdsman.model.store import load_model
    from herdsman.recipe import MachineOptions
    from herdsman.safety.guard import Guard
    from herdsman.stages import resolve_device
    from herdsman.tokens.foreign import load_tokenizer

    tokenizer = load_tokenizer(place.tokenizer)
    model = load_model(place.model, resolve_device(MachineOptions()))
    return Herd(
        LocalEngine(model, tokenizer, weights=weights), tokenizer, Guard.load(place.guard) if place.guard else None
    )


def chat_with(
    folders: Sequence[str],
    input: TextIO,
    output: TextIO,
    notes: TextIO,
    *,
    temperature: float = 0.6,
    top_p: float = 0.9,
    max_tokens: int = 400,
    seed: int = 1,
    system: str | None = None,
    tools: Sequence[str] = (),
    weights: Weights = "auto",
    use_guard: bool = True,
    as_json: bool = False,
    files: Path = Path("herdsman-files"),
) -> None:
    """Talks to the first of the models in these folders: questions come from `input`, a line each.

    Args:
        folders: as `herdsman serve` takes them.
        output: where answers go; with `as_json` every event, a line each.
        notes: where tool calls and their results are shown.
        tools: of python, search and maths, and of files of Python functions, what the model may call.
        weights: the form in which the models' weights are computed with.
        files: folder for what tools make, such as plots.

    Raises:
        WorkspaceError: there is no model in a folder.
        InputError: over a pipe, a question does not fit into the model's context.
        MachineError: a tool does not work on this machine.
    """
    from herdsman.serving.places import find_models

    places = find_models(folders)

    from herdsman.generation.sampling import Sampling  # torch comes with what follows: mistakes are told of before
    from herdsman.serving.dialog import Dialog, Speaker
    from herdsman.serving.terminal import chat
    from herdsman.serving.terminal_output import Lines, Screen
    from herdsman.tokens.chat import ChatFormat, chat_format
    from herdsman.tools.by_name import make_tools

    def open_speaker(place: Place) -> Speaker:
        herd = _open(place, weights)
        guard = herd.guard if use_guard else None
        format: ChatFormat | None = None
        with suppress(InputError):  # It came with no chat template, or a broken one: it goes on with a text.
            format = chat_format(herd.tokenizer) if place.chats else None
        return Speaker(
            place.name,
            herd.engine,
            format,
            guard.notice_for_input if guard else None,
            guard.notice_for_output if guard else None,
        )

    first = next(iter(places.values()))
    workspace = Workspace(first.root)
    sampling = Sampling(max_new_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
    dialog = Dialog(open_speaker(first), sampling, system)
    models = {name: partial(open_speaker, place) for name, place in places.items()}
    shown = Lines(output, files) if as_json else Screen(output, notes, files)
    try:
        dialog.tools = make_tools(tools, workspace)
        chat(dialog, input, output, shown, models, lambda names: make_tools(names, workspace))
    finally:
        for tool in dialog.tools:
            tool.close()


def serve_models(folders: Sequence[str], options: ServerOptions, keys_file: Path | None) -> None:
    """Serves the models in these folders until a signal comes.

    Raises:
        WorkspaceError: there is no model in a folder.
        InputError: two models have the same name, or others could reach the server and there is no key.
        MachineError: it cannot listen where it is told to.
    """
    from herdsman.serving.keys import check_keys, read_keys
    from herdsman.serving.places import find_models

    places, keys = find_models(folders), read_keys(keys_file)
    check_keys(options, keys)

    from herdsman.recipe import MachineOptions  # torch comes with what follows: mistakes are told of before
    from herdsman.serving.models import Models
    from herdsman.serving.server import make_server
    from herdsman.serving.toolbox import stocked_toolbox
    from herdsman.stages import resolve_device

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    models = Models(places, str(resolve_device(MachineOptions())), options)
    server = make_server(models, options, stocked_toolbox(places.values(), options), keys)
    print(f"Serving {', '.join(places)} at {server.address}", file=sys.stderr, flush=True)
    server.run()
