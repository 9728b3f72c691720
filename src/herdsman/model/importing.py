"""Brings a model from elsewhere into Herdsman's form: a folder with `model/`, `tokenizer/` and `origin.json`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from herdsman.errors import InputError
from herdsman.files import atomic_folder, read_json, sha256_file
from herdsman.model import gguf_vocabulary, huggingface
from herdsman.model.conversion import NameMap, collect
from herdsman.model.count import count_parameters
from herdsman.model.gguf import NAMES as GGUF_NAMES
from herdsman.model.gguf import GgufFile
from herdsman.model.hub import fetch_from_hub
from herdsman.model.options import ModelOptions
from herdsman.model.origin import MODEL, TOKENIZER, Origin
from herdsman.model.store import save_weights
from herdsman.progress import SILENT, Progress
from herdsman.tokens.foreign import write_tokenizer
from herdsman.tokens.tokenizer import Tokenizer

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LICENCE = re.compile(r"^license:\s*(\S+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class _Source:
    """A model in another form, opened; its weights are read when `tensors` is drawn."""

    options: ModelOptions
    vocab_size: int
    names: NameMap
    tensors: Iterator[tuple[str, Tensor]]
    files: list[Path]
    tokenizer_json: str
    stop_ids: frozenset[int]
    pad: int | None
    chat_template: str | None
    name: str | None
    licence: str | None
    stored_as: str | None


def import_model(source: str, out: Path, progress: Progress = SILENT) -> Origin:
    """Imports a model whole or not at all.

    Args:
        source: a folder as transformers writes it, a `.gguf` file, or the id of a model on the Hugging Face Hub.
        out: folder to make; it may exist if it is empty.

    Raises:
        InputError: the source is no dense Llama with a tokenizer, or is damaged; or `out` is not empty.
        NetworkError: the Hub does not give the model.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("there is something here already", where=out, do="choose a new folder with --to")
    path = Path(source).expanduser()
    if not path.exists():
        if not _HUB_ID.fullmatch(source):
            raise InputError(
                "no such file or folder",
                where=source,
                do="give a folder as transformers writes it, a .gguf file, or a model's id on the Hugging Face Hub",
            )
        path = fetch_from_hub(source)
    found = _open_huggingface(path) if path.is_dir() else _open_gguf(path)
    parameters = count_parameters(found.options, found.vocab_size).total
    with atomic_folder(out) as folder:
        (folder / TOKENIZER).mkdir()
        tokenizer = write_tokenizer(
            found.tokenizer_json, found.stop_ids, found.pad, found.chat_template, folder / TOKENIZER
        )
        if tokenizer.vocab_size > found.vocab_size:
            raise InputError(
                f"the tokenizer has {tokenizer.vocab_size:,} ids and the model only {found.vocab_size:,} rows for them",
                where=path,
                do="fetch a tokenizer and weights that belong together",
            )
        with progress.task("import", total=parameters, unit="parameters") as task:

            def counted() -> Iterator[tuple[str, Tensor]]:
                for name, tensor in found.tensors:
                    yield name, tensor
                    task.advance(tensor.numel())

            weights = collect(counted(), found.names, found.options, found.vocab_size, path)
        save_weights(sorted(weights.items()), found.options, found.vocab_size, folder / MODEL)
        origin = Origin(
            source,
            found.name,
            found.licence,
            found.stored_as,
            {file.name: sha256_file(file) for file in found.files},
            parameters,
            found.options.model_dump(exclude_defaults=True),
            found.vocab_size,
            isinstance(tokenizer, Tokenizer),
        )
        origin.write(folder)
    return origin


def _open_gguf(path: Path) -> _Source:
    file = GgufFile(path)
    return _Source(
        options=file.options,
        vocab_size=file.vocab_size,
        names=GGUF_NAMES,
        tensors=file.tensors(),
        files=[path],
        tokenizer_json=gguf_vocabulary.tokenizer_json(file),
        stop_ids=gguf_vocabulary.stop_ids(file),
        pad=file.get("tokenizer.ggml.padding_token_id"),
        chat_template=file.get("tokenizer.chat_template"),
        name=file.get("general.name"),
        licence=file.get("general.license"),
        stored_as=file.types,
    )


def _open_huggingface(folder: Path) -> _Source:
    config = huggingface.read_config(folder)
    options, vocab_size = huggingface.from_config(config, folder / huggingface.CONFIG)
    try:
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "there is no readable tokenizer.json",
            where=folder,
            do="load the tokenizer with transformers and save it again",
        ) from error
    generation, settings = (_table(folder / name) for name in ("generation_config.json", "tokenizer_config.json"))
    added = _listed(_table(folder / "tokenizer.json").get("added_tokens"))
    ids = {token.get("content"): token.get("id") for token in added if isinstance(token, dict)}
    stops = [*_listed(config.get("eos_token_id")), *_listed(generation.get("eos_token_id"))]
    stops.append(ids.get(_content(settings.get("eos_token"))))
    readme = folder / "README.md"
    licence = _LICENCE.search(readme.read_text(encoding="utf-8", errors="replace")) if readme.is_file() else None
    return _Source(
        options=options,
        vocab_size=vocab_size,
        names=huggingface.NAMES,
        tensors=huggingface.read_weights(folder),
        files=huggingface.weight_files(folder),
        tokenizer_json=text,
        stop_ids=frozenset(id for id in stops if isinstance(id, int)),
        pad=ids.get(_content(settings.get("pad_token"))),
        chat_template=_chat_template(folder, settings),
        name=config.get("_name_or_path") or None,
        licence=licence[1] if licence else None,
        stored_as=config.get("dtype") or config.get("torch_dtype"),
    )


def _chat_template(folder: Path, settings: dict[str, Any]) -> str | None:
    """The Jinja text: in a file of its own, or among the settings, where there may be several by name."""
    file, template = folder / "chat_template.jinja", settings.get("chat_template")
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    named = {row.get("name"): row.get("template") for row in _listed(template) if isinstance(row, dict)}
    return template if isinstance(template, str) else named.get("default")


def _table(path: Path) -> dict[str, Any]:
    """A JSON file that need not be there.

    Raises:
        InputError: it is there and is no JSON table.
    """
    try:
        table = read_json(path) if path.is_file() else {}
    except ValueError as error:
        raise InputError(f"is not JSON ({error})", where=path, do="fetch it again") from error
    if not isinstance(table, dict):
        raise InputError("is not a table", where=path, do="fetch it again")
    return table


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _content(token: Any) -> str | None:
    """A token's text; the files write it plainly or in a table."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None
