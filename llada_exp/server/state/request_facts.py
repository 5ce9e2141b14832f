"""Facts of one HTTP request: the routes fill them in, its line in the log and /metrics are made of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from llada_exp.server.processes.messages import Done

GENERATION_PATHS = ("/v1/chat/completions", "/v1/completions")
OUTCOMES = ("ok", "invalid", "unauthorized", "overloaded", "deadline", "cancelled", "failed")
CLIENT_GONE, DEADLINE = 499, 408
_OUTCOME_OF = {401: "unauthorized", 429: "overloaded", CLIENT_GONE: "cancelled", DEADLINE: "deadline"}


@dataclass
class RequestFacts:
    """outcome: set by a stream, whose status is 200 however it ends. ttft_s: to the first text sent, of
    streams only. prompt: only where it is to be logged."""

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

    def end(self) -> None:
        self.ended = True
        self.e2el_s = time.monotonic() - self.began
        self.nfe = sum(done["nfe"] for done in self.finished)
        if self.outcome is None:
            self.outcome = outcome_of(self.status)

    def line(self) -> dict[str, Any]:
        """The fields of its log line; times in milliseconds."""
        fields = {
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
        return fields if self.prompt is None else fields | {"prompt": self.prompt}


def outcome_of(status: int) -> str:
    if status in _OUTCOME_OF:
        return _OUTCOME_OF[status]
    return "ok" if 200 <= status < 400 else "failed" if status >= 500 or not status else "invalid"
