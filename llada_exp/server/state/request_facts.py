"""Facts of one HTTP request: the routes fill them in, its line in the log and /metrics are made of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from llada_exp.server.log import shortened
from llada_exp.server.processes.messages import Done

GENERATION_PATHS = ("/v1/chat/completions", "/v1/completions")
OUTCOMES = ("ok", "invalid", "unauthorized", "overloaded", "deadline", "cancelled", "failed")
CLIENT_GONE, DEADLINE = 499, 408
_OUTCOME_OF = {401: "unauthorized", 429: "overloaded", CLIENT_GONE: "cancelled", DEADLINE: "deadline"}


@dataclass
class RequestFacts:
    """outcome: set by a stream, whose status is 200 however it ends. error: why it failed, in words that hold
    no client's text. ttft_s: to the first text sent, of streams only. prompt: only where it is to be logged.
    is_clients: the client sent it."""

    id: str
    path: str
    method: str = "POST"
    is_clients: bool = False
    began: float = field(default_factory=time.monotonic)
    status: int = 0
    outcome: str | None = None
    error: str | None = None
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
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "outcome": self.outcome,
            "error": self.error,
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

    def words(self) -> str:
        """The same for people, shortly: `POST /v1/completions 200, 45 tokens in 0.32 s, 141 tokens/s`.
        An answer that failed or was left is said to have, whatever its status."""
        parts = [f"{self.method} {shortened(self.path)} {self.status}"]
        if self.outcome != "ok":
            parts[0] += f" {self.outcome}" if self.status == 200 else ""
            parts[0] += f": {shortened(self.error)}" if self.error else ""
        took = f"{self.e2el_s:.2f} s"
        if tokens := self.output_tokens:
            answers = f" of {self.num_choices} answers" if self.num_choices > 1 else ""
            rate = tokens / max(self.e2el_s, 1e-6)
            parts += [f"{tokens} tokens{answers} in {took}", f"{rate:.{0 if rate >= 10 else 1}f} tokens/s"]
        else:
            parts.append(took)
        if self.is_clients:
            parts.append(f"id {shortened(self.id)}")
        return ", ".join(parts) if self.prompt is None else f"{', '.join(parts)}, prompt {self.prompt!r}"


def outcome_of(status: int) -> str:
    if status in _OUTCOME_OF:
        return _OUTCOME_OF[status]
    return "ok" if 200 <= status < 400 else "failed" if status >= 500 or not status else "invalid"
