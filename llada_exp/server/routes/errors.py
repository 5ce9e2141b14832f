"""Failures as clients see them: OpenAI's error body, whatever went wrong.

Knows FastAPI; knows nothing of engines and queues.
"""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

logger = logging.getLogger(__name__)

_TYPES = {401: "authentication_error", 404: "not_found_error", 408: "timeout_error", 429: "rate_limit_error"}


MAX_MESSAGE, MAX_PARAM = 2000, 200
"""Characters: a client's own text comes back in part only."""


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


class ApiError(Exception):
    """A request that fails with `status`; `param` is the field at fault, `code` a word for programs."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = _cut(message, MAX_MESSAGE)
        self.param = param and _cut(param, MAX_PARAM)
        self.code = code

    def body(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        headers = {"Retry-After": "1"} if self.status in (429, 503) else {}
        return JSONResponse(self.body(), self.status, headers)


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    return ApiError(400, message, param=param, code=code)


def install_handlers(app: FastAPI) -> None:
    """Give every failure of `app` the same shape, routing and validation included. What nobody foresaw
    is the request log's business, outside of the app."""

    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        message = str(error.detail)
        if error.status_code in (404, 405):
            message = f"{message}: {request.method} {request.url.path}"
        return JSONResponse(ApiError(error.status_code, message).body(), error.status_code, error.headers)

    @app.exception_handler(EOFError)
    @app.exception_handler(ConnectionError)
    async def manager_gone(_: Request, error: Exception) -> JSONResponse:
        return ApiError(503, "the server is stopping: its queues are gone", code="not_ready").response()

    @app.exception_handler(ClientDisconnect)
    async def client_gone(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # nobody reads it

    @app.exception_handler(RequestValidationError)
    async def validation_error(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return bad_request(str(first["msg"]), str(first["loc"][-1])).response()
