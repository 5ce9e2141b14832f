"""What is known of one HTTP request when it ends: the line in the log, the figures in /metrics.

A middleware opens a `Record` before anything looks at the request, so that refused ones are counted
too; the routes fill it in. Knows ASGI; knows nothing of engines, and keeps no text unless told to.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llada_exp.server.processes.messages import Done
from llada_exp.server.routes.errors import ApiError

logger = logging.getLogger(__name__)

GENERATION_PATHS = ("/v1/chat/completions", "/v1/completions")
OUTCOMES = ("ok", "invalid", "unauthorized", "overloaded", "deadline", "cancelled", "failed")
CLIENT_GONE, DEADLINE = 499, 408
_OUTCOME_OF = {401: "unauthorized", 429: "overloaded", CLIENT_GONE: "cancelled", DEADLINE: "deadline"}


@dataclass
class Record:
    """outcome: set by a stream, whose status is 200 however it ends. ttft_s: to the first text sent, of
    streams only."""

    id: str
    path: str
    began: float = field(default_factory=time.monotonic)
    status: int = 0
    outcome: str | None = None
    model: str | None = None
    stream: bool = False
    num_choices: int = 0
    seed: int | None = None
    prompt: Any = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    nfe: int = 0
    finished: list[Done] = field(default_factory=list)
    ttft_s: float | None = None
    e2el_s: float = 0.0
    ended: bool = False

    def first_text(self) -> None:
        if self.ttft_s is None:
            self.ttft_s = time.monotonic() - self.began

    def failed(self, error: ApiError) -> None:
        """A stream that began ends so."""
        self.outcome = outcome_of(error.status)

    def end(self) -> None:
        self.ended = True
        self.e2el_s = time.monotonic() - self.began
        self.nfe = sum(done["nfe"] for done in self.finished)
        if self.outcome is None:
            self.outcome = outcome_of(self.status)

    def line(self) -> dict[str, Any]:
        """The fields of its log line; times in milliseconds."""
        told = {
            "id": self.id,
            "path": self.path,
            "status": self.status,
            "outcome": self.outcome,
            "model": self.model,
            "stream": self.stream,
            "choices": self.num_choices,
            "seed": self.seed,
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "nfe": self.nfe,
            "queue_ms": round(max((d["queue_ms"] for d in self.finished), default=0.0), 3),
            "ttft_ms": None if self.ttft_s is None else round(1000 * self.ttft_s, 3),
            "e2el_ms": round(1000 * self.e2el_s, 3),
        }
        return told if self.prompt is None else told | {"prompt": self.prompt}


def outcome_of(status: int) -> str:
    if status in _OUTCOME_OF:
        return _OUTCOME_OF[status]
    return "ok" if 200 <= status < 400 else "failed" if status >= 500 or not status else "invalid"


class Recorder:
    """ASGI middleware: gives every request its id and its record (`scope["record"]`), refuses too many
    headers and too large bodies before they are read, and tells `tell` of every generation that ended.
    Every response carries x-request-id, the client's own where it sent one."""

    def __init__(self, app: Any, tell: Callable[[Record], None], max_headers: int, max_body: int) -> None:
        self.app = app
        self.tell = tell
        self.max_headers = max_headers
        self.max_body = max_body

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        name = given if 0 < len(given) <= 200 else uuid.uuid4().hex.encode()
        record = scope["record"] = Record(name.decode("latin-1"), scope["path"])

        async def send_named(message: Any) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", name)]}
            elif not message.get("more_body"):
                self._end(record)  # before the client has it all: whoever has an answer finds it counted
            await send(message)

        try:
            if (error := self._refused(scope, headers)) is None:
                await self.app(scope, receive, send_named)
            else:
                await error.response()(scope, receive, send_named)
        except Exception:
            if record.status:
                raise  # the response has begun: uvicorn cuts it off
            logger.exception("a request failed unexpectedly", extra={"fields": {"id": record.id}})
            await ApiError(500, "internal server error").response()(scope, receive, send_named)
        finally:
            self._end(record)

    def _end(self, record: Record) -> None:
        if record.ended:
            return
        record.end()
        level = logging.INFO if record.path in GENERATION_PATHS else logging.DEBUG
        logger.log(level, "request", extra={"fields": record.line()})
        if record.path in GENERATION_PATHS:
            self.tell(record)

    def _refused(self, scope: Any, headers: dict[bytes, bytes]) -> ApiError | None:
        if (count := len(scope["headers"])) > self.max_headers:
            return ApiError(431, f"{count} header lines; at most {self.max_headers}")
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self.max_body:
            return ApiError(413, f"the body has {int(length)} bytes; at most {self.max_body}")
        return None
