"""An engine and a tokenizer that answer without a model, and fail when told to.

A prompt's words steer it: `slow` takes 50 ms a step, `fail` fails alone, `crash` makes its step raise, `lost`
loses the device, `die` kills the worker, `hang` never ends, `freeze` makes its step never return. Everything
else is answered with its own text, four characters a step.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llada_exp.fields import ContextLengthError
from llada_exp.server.processes.worker import Backend
from llada_exp.settings import ServeSettings
from llada_exp.types import DecodingParams, Progress, RequestOutput

TOKENS_PER_STEP = 4
MAX_LENGTH = 4096


class FakeTokenizer:
    """A character is a token."""

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], end: str = "header") -> list[int]:
        return [ord(c) for c in messages[-1]["content"]]

    def encode_prompt(self, text: str) -> list[int]:
        return [ord(c) for c in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))

    def spells_special(self, text: str) -> bool:
        return False


class DeviceLostError(RuntimeError):
    """By its name, as the worker knows it: torch's own stays out of the fake server."""


@dataclass
class _Row:
    prompt: str
    answer: list[int]
    params: DecodingParams
    find_stop: Callable[[Sequence[int]], int | None] | None
    released: int = 0
    nfe: int = 0


class FakeEngine:
    def __init__(self, batch_size: int, device: str = "cpu") -> None:
        self.batch_size = batch_size
        self.device = device
        self.loaded: tuple[float, float] = (0.0, 0.0)  # when loading began and ended
        self.num_steps = 0
        self.last_abort: tuple[float, int] | None = None  # when, and before which step
        self.rows: dict[str, _Row] = {}
        self.batches: Counter[int] = Counter()
        self.aborted: list[str] = []

    def add_request(self, prompt_ids, params, *, request_id=None, find_stop=None) -> str:  # type: ignore[no-untyped-def]
        self.check(prompt_ids, params)
        prompt = "".join(map(chr, prompt_ids))
        answer = [ord(c) for c in f"{prompt} @{params.seed or 0}"]
        self.rows[request_id] = _Row(prompt, answer, params, find_stop)
        return request_id

    def check(self, prompt_ids, params) -> None:  # type: ignore[no-untyped-def]
        if not len(prompt_ids):
            raise ValueError("the prompt is empty; expected at least one token")
        if len(prompt_ids) + params.max_tokens > MAX_LENGTH:
            raise ContextLengthError(MAX_LENGTH, len(prompt_ids), params.max_tokens, 16, None)

    def has_capacity(self, num_rows: int = 1) -> bool:
        return len(self.rows) + num_rows <= self.batch_size

    def has_work(self) -> bool:
        return bool(self.rows)

    def step(self, on_failure=None) -> list[Progress]:  # type: ignore[no-untyped-def]
        self.batches[len(self.rows)] += 1
        self.num_steps += 1
        words = {word for row in self.rows.values() for word in row.prompt.split()}
        if "die" in words:
            os.kill(os.getpid(), signal.SIGKILL)
        if "crash" in words:
            raise RuntimeError("a kernel failed")
        for name in [name for name, row in self.rows.items() if "fail" in row.prompt.split()]:
            del self.rows[name]
            on_failure(name, RuntimeError("a row failed"))
        if "lost" in words:
            raise DeviceLostError("CUDA error: device-side assert triggered")
        if "freeze" in words:
            time.sleep(3600)
        if "slow" in words or "hang" in words:
            time.sleep(0.05)
        return [p for name, row in list(self.rows.items()) if (p := self._advance(name, row))]

    def _advance(self, name: str, row: _Row) -> Progress | None:
        row.nfe += 1
        if "hang" in row.prompt.split():
            return None
        end = min(row.released + TOKENS_PER_STEP, len(row.answer), row.params.max_tokens)
        reason = "stop" if end == len(row.answer) else "length" if end == row.params.max_tokens else None
        if row.find_stop and (cut := row.find_stop(row.answer[:end])) is not None:
            end, reason = cut, "stop"
        fresh, row.released = tuple(row.answer[row.released : end]), end
        if reason is None:
            return Progress(name, fresh)
        del self.rows[name]
        ids = tuple(row.answer[:end])
        output = RequestOutput(name, len(row.prompt), ids, reason, row.nfe, row.nfe, 1.0, 2.0, 3.0)
        return Progress(name, fresh, output)

    def abort(self, request_id: str) -> bool:
        self.aborted.append(request_id)
        self.last_abort = (time.monotonic(), self.num_steps)
        return self.rows.pop(request_id, None) is not None

    def abort_all(self) -> list[str]:
        return [name for name in list(self.rows) if self.abort(name)]

    def stats(self) -> dict[str, Any]:
        return {
            "rows_in_flight": len(self.rows),
            "num_aborted": len(self.aborted),
            "last_abort": self.last_abort,
            "num_steps": self.num_steps,
            "device": self.device,
            "loaded": self.loaded,
            "batch_size_histogram": dict(self.batches),
        }


def build(settings: ServeSettings, device: str) -> Backend:
    """In the place of `load_backend`. LLADA_FAKE_SETUP makes it slow, or fail; the file
    LLADA_FAKE_SETUP_FLAG makes it fail once it is there."""
    setup = os.environ.get("LLADA_FAKE_SETUP", "")
    if setup == "fail" or os.path.exists(os.environ.get("LLADA_FAKE_SETUP_FLAG", "/nowhere")):
        raise ValueError("model.safetensors: found 3 tensors, expected 5")
    engine = FakeEngine(settings.batch_size, device)
    begin = time.monotonic()
    time.sleep(float(setup or 0))
    engine.loaded = (begin, time.monotonic())
    return Backend(engine, FakeTokenizer(), about={"block_length": 16})
