"""The web application: which address is answered by what."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from herdsman.serving.api_error import ApiError, as_api_error
from herdsman.serving.chat_completions import chat_completions
from herdsman.serving.completions import completions
from herdsman.serving.drawing import log_failure
from herdsman.serving.gate import Gate
from herdsman.serving.metrics import Metrics, metrics
from herdsman.serving.models import Models
from herdsman.serving.options import ServerOptions
from herdsman.serving.page import page
from herdsman.serving.places import Place
from herdsman.serving.response_store import ResponseStore
from herdsman.serving.responses import forget_response, responses
from herdsman.serving.tokenizing import detokenize, tokenize, tokenizer_info
from herdsman.serving.toolbox import Toolbox

logger = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]

SWEEP_SECONDS = 60


def make_app(models: Models, options: ServerOptions, toolbox: Toolbox, keys: Sequence[str] = ()) -> Gate:
    """The application behind its gate.

    Args:
        keys: of which a request must carry one; none is needed if there are none.
    """
    threads = ThreadPoolExecutor(options.most_requests, "turns")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(toolbox))
        yield
        sweeping.cancel()
        models.close()
        toolbox.containers.close()
        threads.shutdown(wait=False, cancel_futures=True)

    counts = Metrics(models)
    posts: dict[str, Endpoint] = {
        "/v1/chat/completions": chat_completions,
        "/v1/completions": completions,
        "/v1/responses": responses,
        "/tokenize": tokenize,
        "/detokenize": detokenize,
    }
    gets: dict[str, Endpoint] = {
        "/": page,
        "/health": health,
        "/metrics": metrics,
        "/v1/models": list_models,
        "/v1/models/{name:path}": show_model,
        "/tokenizer_info": tokenizer_info,
    }
    routes = [Route(path, _answering(path, endpoint, counts), methods=["POST"]) for path, endpoint in posts.items()]
    routes += [Route(path, _answering(path, endpoint, counts)) for path, endpoint in gets.items()]
    forget = "/v1/responses/{id}"
    routes.append(Route(forget, _answering(forget, forget_response, counts), methods=["DELETE"]))
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refused}, lifespan=lifespan)
    gate = Gate(app, options, keys)
    app.state.models, app.state.options, app.state.gate, app.state.metrics = models, options, gate, counts
    app.state.toolbox, app.state.threads = toolbox, threads
    app.state.responses = ResponseStore(options.memory_bytes)
    return gate


async def _sweep(toolbox: Toolbox) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        toolbox.containers.sweep()


def _answering(path: str, endpoint: Endpoint, counts: Metrics) -> Endpoint:
    """The endpoint, with errors answered in one sentence and everything counted."""

    async def answering(request: Request) -> Response:
        started = time.monotonic()
        try:
            response = await endpoint(request)
        except Exception as error:
            log_failure(error)
            response = as_api_error(error).response()
        counts.requests.labels(path, str(response.status_code)).inc()
        counts.first_byte.labels(path).observe(time.monotonic() - started)
        return response

    return answering


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentences = {404: f"there is nothing at {request.url.path[:200]}", 405: f"{request.method} is not answered here"}
    return ApiError(error.status_code, sentences.get(error.status_code, error.detail.lower())).response()


async def health(request: Request) -> Response:
    """Answers GET /health: 200, or 503 while the server stops, so that no new requests are sent here."""
    draining = request.app.state.gate.draining
    return JSONResponse({"status": "stopping" if draining else "ok"}, 503 if draining else 200)


async def list_models(request: Request) -> Response:
    """Answers GET /v1/models."""
    state = request.app.state
    return JSONResponse({"object": "list", "data": [_as_json(place, state) for place in state.models.places.values()]})


async def show_model(request: Request) -> Response:
    """Answers GET /v1/models/NAME."""
    state = request.app.state
    return JSONResponse(_as_json(state.models.place(request.path_params["name"]), state))


def _as_json(place: Place, state: Any) -> dict[str, Any]:
    """A model, with what the page needs to know beside: whether it chats, and tools of this server for it."""
    more = {"chats": place.chats, "tools": list(state.toolbox.offered.get(place.name, ()))}
    return {"id": place.name, "object": "model", "created": place.created, "owned_by": "herdsman"} | more
