"""/tokenize, /detokenize and /tokenizer_info: a vocabulary, as vLLM and lm-evaluation-harness know them."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from herdsman.serving.fields import Body, parse
from herdsman.serving.models import Opened
from herdsman.serving.shapes import token_text


class TokenizeBody(Body):
    """The body of a request to /tokenize; without a model it is the first that is served."""

    model: str | None = Field(None, max_length=256)
    prompt: str
    add_special_tokens: bool = True
    return_token_strs: bool | None = False


class DetokenizeBody(Body):
    """The body of a request to /detokenize."""

    model: str | None = Field(None, max_length=256)
    tokens: list[int]


async def tokenize(request: Request) -> Response:
    """Answers POST /tokenize.

    Text is never read as a special token, with one exception: a prompt that is nothing but a special token's name gives
    that token, which is how clients ask for its id.
    """
    body = parse(TokenizeBody, await request.body())
    model = await _model(request, body.model)
    tokenizer = model.engine.tokenizer
    if body.prompt in tokenizer.special:
        ids = [tokenizer.special[body.prompt]]
    else:
        ids = [*(model.beginning if body.add_special_tokens else []), *tokenizer.encode(body.prompt)]
    strings = [token_text(tokenizer, id) for id in ids] if body.return_token_strs else None
    answer = {"count": len(ids), "max_model_len": model.engine.context_length, "tokens": ids, "token_strs": strings}
    return JSONResponse(answer)


async def detokenize(request: Request) -> Response:
    """Answers POST /detokenize."""
    body = parse(DetokenizeBody, await request.body())
    model = await _model(request, body.model)
    model.check_ids(body.tokens, "tokens")
    return JSONResponse({"prompt": model.engine.tokenizer.decode(body.tokens)})


async def tokenizer_info(request: Request) -> Response:
    """Answers GET /tokenizer_info."""
    model = await _model(request, request.query_params.get("model"))
    tokenizer = model.engine.tokenizer
    names = {id: name for name, id in tokenizer.special.items()}
    end = min(tokenizer.stop_ids, default=None)
    info: dict[str, Any] = {
        "tokenizer_class": type(tokenizer).__name__,
        "bos_token": names.get(model.beginning[0]) if model.beginning else None,
        "eos_token": None if end is None else names.get(end),
        "pad_token": names.get(tokenizer.pad),
        "model_max_length": model.engine.context_length,
    }
    return JSONResponse(info)


async def _model(request: Request, name: str | None) -> Opened:
    models = request.app.state.models
    return await models.open(name or next(iter(models.places)))
