"""Around every request: its id, its facts, its line in the log.

A middleware begins the facts before anything looks at the request, so that refused ones are counted too.
Knows ASGI; knows nothing of engines, and keeps no text unless the configuration says so.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any

from llada_exp.server.routes.errors import ApiError
from llada_exp.server.state.request_facts import GENERATION_PATHS, RequestFacts

logger = logging.getLogger(__name__)


class RequestLog:
    """ASGI middleware: gives every request its id and its facts (`scope["facts"]`), refuses too many
    headers and too large bodies before they are read, and calls `count` with the facts of every generation
    that ended. Every response carries x-request-id, the client's own where it sent one."""

    def __init__(
        self, app: Any, count: Callable[[RequestFacts], None], max_headers: int, max_body: int
    ) -> None:
        self.app = app
        self.count = count
        self.max_headers = max_headers
        self.max_body = max_body

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        name = headers.get(b"x-request-id", b"")
        if not (is_clients := 0 < len(name) <= 200):
            name = uuid.uuid4().hex.encode()
        facts = scope["facts"] = RequestFacts(
            name.decode("latin-1"), scope["path"], scope["method"], is_clients
        )

        async def send_with_id(message: Any) -> None:
            if message["type"] == "http.response.start":
                facts.status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", name)]}
            elif not message.get("more_body"):
                self._end(facts)  # before the client has it all: whoever has an answer finds it counted
            await send(message)

        try:
            if (error := self._refused(scope, headers)) is None:
                # What answers GET answers HEAD, too; uvicorn leaves the body out.
                inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
                await self.app(inner, receive, send_with_id)
            else:
                facts.error = error.message
                await error.response()(scope, receive, send_with_id)
        except Exception:
            if facts.status:
                raise  # the response has begun: uvicorn cuts it off
            logger.exception("a request failed unexpectedly", extra={"fields": {"id": facts.id}})
            facts.error = "internal error; the traceback is above"
            await ApiError(500, "internal server error").response()(scope, receive, send_with_id)
        finally:
            self._end(facts)

    def _end(self, facts: RequestFacts) -> None:
        if facts.ended:
            return
        facts.end()
        is_news = facts.path in GENERATION_PATHS or 400 <= facts.status < 500  # probes would drown the rest
        extra = {"fields": facts.line(), "words": facts.words()}
        logger.log(logging.INFO if is_news else logging.DEBUG, "request", extra=extra)
        if facts.path in GENERATION_PATHS:
            self.count(facts)

    def _refused(self, scope: Any, headers: dict[bytes, bytes]) -> ApiError | None:
        if (count := len(scope["headers"])) > self.max_headers:
            return ApiError(431, f"{count} header lines; at most {self.max_headers}")
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self.max_body:
            return ApiError(413, f"the body has {int(length)} bytes; at most {self.max_body}")
        return None
