"""What went wrong with a request, in the form of OpenAI's API: a status and a JSON object with one sentence."""

from __future__ import annotations

import math
from typing import Any

from starlette.responses import JSONResponse

from herdsman.errors import HerdsmanError, InputError

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


class ApiError(Exception):
    """A request that cannot be answered.

    Args:
        status: of HTTP.
        message: one sentence for the caller.
        param: the field of the request concerned, if one is.
        code: a short name of the error for programs.
        retry_seconds: after how long it may be tried again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_seconds: float | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = {} if retry_seconds is None else {"Retry-After": str(max(math.ceil(retry_seconds), 1))}
        if status == 401:
            self.headers["WWW-Authenticate"] = "Bearer"

    def body(self) -> dict[str, Any]:
        """{"error": {"message", "type", "param", "code"}}."""
        kind = TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body(), self.status, self.headers)


def unsupported(param: str, what: str) -> ApiError:
    return ApiError(400, f"{param}: {what}", param=param, code="unsupported_value")


def as_api_error(error: Exception) -> ApiError:
    """An error met while answering, as the client sees it: what it can act on in full, anything else without detail."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, InputError):
        return ApiError(400, str(error), code="invalid_value")
    if isinstance(error, HerdsmanError):
        return ApiError(503, str(error), code="unavailable")
    return ApiError(500, "the server failed at this request; its log says why", code="internal_error")
