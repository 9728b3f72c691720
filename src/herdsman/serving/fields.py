"""What the bodies of requests have in common: strict JSON objects, whose first mistake becomes one sentence."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from herdsman.generation.constraint import Constraint
from herdsman.generation.sampling import Sampling
from herdsman.options import Options
from herdsman.serving.api_error import ApiError

Parsed = TypeVar("Parsed", bound="Body")

MOST_STOPS = 16
MOST_TOP_LOGPROBS = 20
SEED_BITS = 63


class Body(Options):
    """A JSON object of a request. Numbers are numbers, text is text, and what is not known is refused."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


def wrong(sentence: str) -> PydanticCustomError:
    """To be raised by validators. The sentence says what should be, in the form `should be ...`."""
    return PydanticCustomError("wrong", "{sentence}", {"sentence": sentence})


def parse(kind: type[Parsed], body: bytes) -> Parsed:
    """
    Raises:
        ApiError: the body is not JSON, or not of this kind; the sentence names the field.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = _path(first["loc"])
        if first["type"] == "json_invalid":
            raise ApiError(400, f"the body is not valid JSON: {_json_mistake(first)}", code="invalid_json") from error
        if first["type"] == "extra_forbidden":
            raise ApiError(400, f"{path}: there is no such field", param=path, code="unknown_parameter") from error
        if first["type"] == "missing":
            raise ApiError(400, f"{path}: is missing", param=path, code="missing_required_parameter") from error
        raise ApiError(
            400, f"{path}: {_mistake(first)}" if path else _mistake(first), param=path or None, code="invalid_value"
        ) from error


def _path(location: tuple[int | str, ...]) -> str:
    """The field's place. After a number pydantic also puts the tag by which it chose among kinds of objects."""
    kept = [
        part
        for number, part in enumerate(location)
        if not (isinstance(part, str) and part.startswith("=")) and not (number and part == "[key]")
    ]
    return ".".join(str(part)[:64] for part in kept)


def _mistake(error: ErrorDetails) -> str:
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        context = error.get("ctx", {})
        known = str(context.get("expected_tags", "")).replace("'=", "'")
        return (
            f"{context.get('discriminator', 'its kind')} should be one of {known}" if known else "its kind is missing"
        )
    message = error["msg"].removeprefix("Input ").removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _json_mistake(error: ErrorDetails) -> str:
    return str(error["ctx"]["error"]) if "ctx" in error else "it cannot be read"


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value or []


def _token_biases(value: Any) -> dict[int, float]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong("should be an object of token ids and numbers")
    biases = {}
    for key, bias in value.items():
        number = isinstance(bias, (int, float)) and not isinstance(bias, bool)
        if not (key.isascii() and key.isdecimal() and len(key) < 10 and number and -100 <= bias <= 100):
            raise wrong("should be an object whose keys are token ids and whose values lie between -100 and 100")
        biases[int(key)] = float(bias)
    return biases


Texts = Annotated[list[str], BeforeValidator(_one_or_many)]
Biases = Annotated[dict[int, float], BeforeValidator(_token_biases)]


class StreamOptions(Body):
    include_usage: bool = False
    include_obfuscation: bool = False


class DrawnBody(Body):
    """How text is to be drawn, and what OpenAI's API knows beside and this server has no use for."""

    model: str = Field(max_length=256)
    stream: bool | None = False
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, le=2**31)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = Field(None, ge=-(2**SEED_BITS), lt=2**SEED_BITS)
    stop: Texts = Field([], max_length=MOST_STOPS)
    stream_options: StreamOptions | None = None
    metadata: dict[str, str] | None = None
    user: Any = None
    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    safety_identifier: Any = None
    service_tier: Any = None

    def sampling(self, max_new_tokens: int, **more: Any) -> Sampling:
        """The fields as the engine takes them; those that are left out have its defaults. Without a seed each request
        draws anew.

        Raises:
            InputError: they do not fit together.
        """
        names = (
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "repetition_penalty",
            "presence_penalty",
            "frequency_penalty",
        )
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        seed = secrets.randbits(SEED_BITS) if self.seed is None else self.seed
        stop = tuple(stop for stop in self.stop if stop)
        return Sampling(max_new_tokens=max_new_tokens, seed=seed, stop=stop, **given, **more)


class CompletionBody(DrawnBody):
    """What /v1/completions and /v1/chat/completions share."""

    n: int | None = Field(1, ge=1, le=128)
    logit_bias: Biases = Field({})

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, max_new_tokens: int, **more: Any) -> Sampling:
        """See `DrawnBody.sampling`."""
        return super().sampling(max_new_tokens, logit_bias=self.logit_bias, **more)


class JsonSchema(Body):
    """A form for the answer."""

    name: str = Field("answer", max_length=64)
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


def json_constraint(schema: Mapping[str, Any]) -> Constraint:
    return Constraint("json_schema", json.dumps(schema))


FormatName = Literal["text", "json_object", "json_schema"]
