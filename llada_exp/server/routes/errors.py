"""Failures as clients see them: OpenAI's error body, whatever went wrong.

Knows FastAPI; knows nothing of engines and queues.
"""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

_TYPES = {401: "authentication_error", 404: "not_found_error", 408: "timeout_error", 429: "rate_limit_error"}


MAX_MESSAGE, MAX_PARAM = 2000, 200
"""Characters: a client's own text comes back in part only."""
GONE = "the client closed the connection"
TEXT_FIELDS = ("messages", "prompt", "suffix", "prediction")
"""Of requests: what stands in them is no business of the log's."""
_QUOTES_VALUE = re.compile(r" is .*; (expected .*)", re.DOTALL)


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

    def logged(self) -> str:
        """The message for the log: without the value, where that may hold a client's text."""
        field = re.split(r"[.\[]", self.param or "")[0]
        if field not in TEXT_FIELDS or self.code == "context_length_exceeded":
            return self.message
        if said := _QUOTES_VALUE.search(self.message):
            return f"{self.param}: {said[1]}"
        return f"{self.param}: {self.code or 'refused'}".replace("_", " ")

    def response(self) -> JSONResponse:
        headers = {"Retry-After": "1"} if self.status in (429, 503) else {}
        return JSONResponse(self.body(), self.status, headers)


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    return ApiError(400, message, param=param, code=code)


def install_handlers(app: FastAPI) -> None:
    """Give every failure of `app` the same shape, routing and validation included. What nobody foresaw
    is the request log's business, outside of the app."""

    def answer(request: Request, error: ApiError, logged: str | None = None) -> JSONResponse:
        request.scope["facts"].error = logged or error.logged()
        return error.response()

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> JSONResponse:
        return answer(request, error)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        message = str(error.detail)
        if error.status_code in (404, 405):
            message = f"{message}: {request.method} {request.url.path}"
        response = answer(request, ApiError(error.status_code, message), logged=str(error.detail))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(EOFError)
    @app.exception_handler(ConnectionError)
    async def manager_gone(request: Request, _: Exception) -> JSONResponse:
        gone = ApiError(503, "the server is stopping: its queues are gone", code="not_ready")
        return answer(request, gone)

    @app.exception_handler(ClientDisconnect)
    async def client_gone(request: Request, _: ClientDisconnect) -> Response:
        return answer(request, ApiError(499, GONE))  # nobody reads it

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return answer(request, bad_request(str(first["msg"]), str(first["loc"][-1])))
