"""The recipe file: each folder's options, composed and validated."""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from herdsman.documents.options import DocumentsOptions
from herdsman.errors import RecipeError
from herdsman.evaluation.options import EvaluationOptions
from herdsman.model.options import ModelOptions
from herdsman.options import Options
from herdsman.pages.options import PagesOptions
from herdsman.parallel import Engine
from herdsman.posttraining.options import PosttrainOptions
from herdsman.release.options import ReleaseOptions
from herdsman.safety.options import SafetyOptions
from herdsman.scaling.options import ScalingOptions
from herdsman.tokens.options import TokenizerOptions, TokensOptions
from herdsman.tools.options import SearchOptions
from herdsman.training.options import PretrainOptions


class MachineOptions(Options):
    """How this machine is used. Not part of any fingerprint: it changes how fast results come."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where models run; `auto` takes a GPU if there is one."
    )
    workers: int | None = Field(None, ge=1, description="Processes for data work; all cores if left out.")
    engine: Engine = Field(
        "local",
        description="Where data work runs: `local` in processes here, `ray` as tasks on a Ray cluster whose nodes see "
        "the same folders and have the same Herdsman.",
    )
    ray_address: str | None = Field(
        None, description="The Ray cluster, as `HOST:6379` or `auto`; if left out, Ray is started on this machine."
    )
    processes: int = Field(
        1, ge=1, description="Processes on this machine for pretraining, one a GPU; see `pretrain.layout`."
    )
    nodes: str = Field(
        "1",
        pattern=r"^\d+(:\d+)?$",
        description="Machines for pretraining, each with as many processes: `2`, or `2:4` to go on with as few as 2. "
        "On the others run `herdsman join` with the same recipe.",
    )
    rendezvous: str | None = Field(None, description="HOST:PORT of the first machine, where the others meet it.")
    threads: int | None = Field(
        None, ge=1, description="Threads for matrix products on the CPU; all cores, at most 8, if left out."
    )


class Recipe(Options):
    """Everything that shapes a herd, in one file."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="The herd's name; its workspace is herds/NAME."
    )
    description: str = Field("", description="One or two sentences about this recipe.")
    seed: int = Field(1, ge=0, description="Seed of every random choice.")
    machine: MachineOptions = Field(MachineOptions(), description="How this machine is used.")
    pages: PagesOptions = Field(description="Where pages come from.")
    documents: DocumentsOptions = Field(DocumentsOptions(), description="From pages to clean documents and their mix.")
    tokenizer: TokenizerOptions = Field(TokenizerOptions(), description="The byte-level BPE vocabulary.")
    tokens: TokensOptions = Field(TokensOptions(), description="Packed token streams.")
    search: SearchOptions = Field(SearchOptions(), description="The index that chat models search.")
    model: ModelOptions = Field(description="Dimensions of the decoder.")
    scaling: ScalingOptions = Field(ScalingOptions(), description="Sweeps for scaling laws: `herdsman scale`.")
    pretrain: PretrainOptions = Field(description="The schedule of pretraining and annealing.")
    posttrain: PosttrainOptions = Field(PosttrainOptions(), description="One round of post-training.")
    evaluate: EvaluationOptions = Field(EvaluationOptions(), description="Benchmarks and held-out text.")
    safety: SafetyOptions = Field(SafetyOptions(), description="Refusals and the guard.")
    release: ReleaseOptions = Field(ReleaseOptions(), description="Model card and export.")


def load_recipe(path: Path | str, overrides: list[str] | None = None) -> Recipe:
    """Reads and validates a recipe.

    Args:
        overrides: `section.key=value` settings that win over the file; values as in TOML, bare words as strings.

    Raises:
        RecipeError: the file is missing, is not TOML, or does not validate.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"cannot be read ({error.strerror})", where=path, do="check the path") from error
    except UnicodeDecodeError as error:
        raise RecipeError(
            "is not UTF-8 text", where=path, do="point to a TOML recipe, such as recipes/tiny.toml"
        ) from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"is not valid TOML: {error}", where=path, do="mend that line") from error
    for override in overrides or []:
        _override(table, override)
    try:
        return Recipe(**table)
    except ValidationError as error:
        raise _explain(error, path, text) from error


def _override(table: dict[str, Any], setting: str) -> None:
    key, equals, value = setting.partition("=")
    if not equals or not all(part for part in key.split(".")):
        raise RecipeError("is not of the form section.key=value", where=f"--set {setting}", do="write --set seed=2")
    *sections, last = key.strip().split(".")
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise RecipeError(f"{section} is not a section", where=f"--set {setting}", do="check the key")
    try:
        table[last] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        table[last] = value


def _explain(error: ValidationError, path: Path, text: str) -> RecipeError:
    """Turns pydantic's first complaint into one sentence with key, line and cure."""
    # An unknown key comes first: most often it is the missing one, misspelt.
    first, *_ = sorted(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
    others = error.error_count() - 1
    keys = [str(part) for part in first["loc"]]
    key = ".".join(keys) or "the recipe"
    if first["type"] == "extra_forbidden":
        known = _known_keys(keys[:-1])
        close = difflib.get_close_matches(keys[-1], known, 1)
        what, do = (
            f"unknown key {key}",
            f"did you mean {close[0]}?" if close else f"known keys here: {', '.join(known)}",
        )
    elif first["type"] == "missing":
        what, do = f"{key} is missing", "add it; docs/recipe.md describes every key"
    else:
        message = first["msg"].removeprefix("Value error, ")
        what, do = f"{key}: {message[0].lower()}{message[1:]}", "docs/recipe.md describes every key"
        if not isinstance(first["input"], dict | list):
            what += f", but is {json.dumps(first['input'], default=str)}"
    if others:
        do += f" ({others} more of this kind)" if others > 1 else " (and one more error)"
    line = _line_of(keys, text)
    return RecipeError(what, where=f"{path}, line {line}" if line else path, do=do)


def _known_keys(sections: list[str]) -> list[str]:
    model: Any = Recipe
    for section in sections:
        if section.isdigit():
            continue
        annotation = model.model_fields[section].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, Options))
    return list(model.model_fields)


def _line_of(keys: list[str], text: str) -> int | None:
    """Line of the key's assignment: the first one under a header that names its section."""
    names = [key for key in keys if not key.isdigit()]
    if not names:
        return None
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            section = stripped.strip("[] ")
            if section == ".".join(names):
                return number
        elif stripped.partition("=")[0].strip() == names[-1] and section == ".".join(names[:-1]):
            return number
    return None
