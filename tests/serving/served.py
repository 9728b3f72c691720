"""Servers for the tests: real ones, on a port of their own, over models that are made here."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import torch

from herdsman.files import write_json
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions
from herdsman.model.origin import MODEL, ORIGIN, TOKENIZER
from herdsman.model.store import save_model
from herdsman.serving.containers import Containers
from herdsman.serving.models import Models
from herdsman.serving.options import ServerOptions
from herdsman.serving.places import find_models
from herdsman.serving.server import Server, make_server
from herdsman.serving.toolbox import MakeTool, Toolbox
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.tokens.vocabulary import MODEL_FILE, SPECIAL_FILE, write_ranks


def write_model(folder: Path, model: Llama, tokenizer: Tokenizer, ranks: Mapping[bytes, int]) -> Path:
    """A folder as `herdsman import` leaves it."""
    save_model(model, folder / MODEL)
    (folder / TOKENIZER).mkdir()
    write_ranks(folder / TOKENIZER / MODEL_FILE, dict(ranks))
    write_json(folder / TOKENIZER / SPECIAL_FILE, tokenizer.special)
    write_json(folder / ORIGIN, {})
    return folder


def chain(tokens: Sequence[int], size: int, context_length: int) -> Llama:
    """A model that answers every dialog with these tokens, none of which may occur twice: a table of successors, as
    `tests.generation.models.parrot`."""
    model = Llama(
        ModelOptions(layers=1, dim=1024, heads=64, kv_heads=1, ffn_multiple_of=8, ffn_multiplier=0.01,
                     context_length=context_length),
        size,
    ).eval()  # fmt: skip
    successors = [ord("\n"), *tokens]
    assert len(set(successors)) == len(successors)
    assert model.output is not None
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_() if parameter.dim() > 1 else parameter.fill_(1.0)
        model.embedding.weight.copy_(torch.eye(size, 1024))
        for token, following in pairwise(successors):
            model.output.weight[following, token] = 100.0
    return model


def no_tool(name: str, place: object) -> None:
    raise AssertionError("no tool is offered")


@contextmanager
def serving(
    folders: Sequence[Path],
    options: ServerOptions | None = None,
    keys: Sequence[str] = (),
    offered: Mapping[str, Sequence[str]] | None = None,
    make: MakeTool = no_tool,  # type: ignore[assignment]
    toolbox: Toolbox | None = None,
) -> Iterator[Server]:
    """Serves the models in these folders, in a thread, for the time of the block."""
    options = (options or ServerOptions()).model_copy(update={"port": 0, "stop_seconds": 1, "weights": "float32"})
    models = Models(find_models([str(folder) for folder in folders]), "cpu", options)
    toolbox = toolbox or Toolbox(offered or {}, make, Containers(options))
    server = make_server(models, options, toolbox, keys)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(30)
        assert not thread.is_alive()
