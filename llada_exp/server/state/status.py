"""What the server says of itself: the model's names, health and batch statistics, as plain values."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from llada_exp.decoding import describe
from llada_exp.server.processes.shared_state import FAILED, READY
from llada_exp.server.routes.errors import ApiError
from llada_exp.server.state.waiting import Exchange
from llada_exp.settings import ModelSettings, ServeSettings
from llada_exp.types import DecodingParams

PACKAGES = ("llada_exp", "torch", "transformers", "litserve", "fastapi", "pydantic", "tokenizers")


class Names:
    """The served model's name, and the spellings of it that clients may use."""

    def __init__(self, model: ModelSettings) -> None:
        self.name = model.name
        spellings = {model.name, model.path or "", (model.path or "").rstrip("/").rpartition("/")[2]}
        if model.source == "tiny":
            spellings.add("tiny")
        self._known = {_fold(s) for s in spellings if s}

    def check(self, name: str | None) -> None:
        """Raises a 404 ApiError for another model's name. None: the one that is served."""
        if name is not None and _fold(name) not in self._known:
            raise ApiError(
                404,
                f"The model `{name}` does not exist; this server has `{self.name}`",
                param="model",
                code="model_not_found",
            )

    def card(self, created: int) -> dict[str, Any]:
        return {"id": self.name, "object": "model", "created": created, "owned_by": "llada_exp"}


def _fold(name: str) -> str:
    return name.lower().replace("_", "-")


def overall(states: Mapping[int, Mapping[str, Any]], num_workers: int, draining: bool) -> str:
    """starting | ready | degraded | draining."""
    if draining:
        return "draining"
    kinds = Counter(state["state"] for state in states.values())
    if kinds[READY] >= num_workers:
        return "ready"
    return "degraded" if kinds[FAILED] and kinds[READY] else "starting"


def batch_stats(
    settings: ServeSettings, exchange: Exchange, states: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    """Queue and batch figures; the engine's counters summed over workers and listed for each."""
    engines = {worker: dict(state.get("engine") or {}) for worker, state in sorted(states.items())}
    histogram: Counter[int] = Counter()
    for engine in engines.values():
        histogram.update(engine.get("batch_size_histogram") or {})
    steps = sum(histogram.values())
    return {
        "mode": settings.mode,
        "max_batch_size": settings.batch_size,
        "max_wait_time": settings.max_wait_time,
        "pending_requests": exchange.num_pending,
        "currently_processing": exchange.num_processing,
        "response_buffers": exchange.num_buffers,
        "requests": dict(exchange.counters),
        "num_steps": steps,
        "mean_batch_size": round(sum(k * v for k, v in histogram.items()) / steps, 3) if steps else None,
        "batch_size_histogram": {str(size): count for size, count in sorted(histogram.items())},
        "workers": [{"worker": worker, "pid": states[worker]["pid"], "state": states[worker]["state"],
                     "engine": engine} for worker, engine in engines.items()],
    }  # fmt: skip


def worker_status(states: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry a worker; beat_age_s: since it last spoke."""
    now = time.monotonic()
    return [
        {
            "worker": worker,
            "pid": state["pid"],
            "state": state["state"],
            "error": state.get("error"),
            "rows_in_flight": (state.get("engine") or {}).get("rows_in_flight", 0),
            "num_finished": (state.get("engine") or {}).get("num_finished", 0),
            "beat_age_s": round(now - state["beat"], 3),
        }
        for worker, state in sorted(states.items())
    ]


def with_block_length(preset: DecodingParams, about: Mapping[int, Mapping[str, Any]]) -> DecodingParams:
    """The preset with the block length of the model, as its workers say it, where it has none of its own."""
    lengths = (facts["block_length"] for facts in about.values() if "block_length" in facts)
    return preset if preset.block_length is not None else replace(preset, block_length=next(lengths, None))


def info(
    settings: ServeSettings, preset: DecodingParams, has_key: bool, about: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    """Versions and the resolved configuration, without the key. preset: the decoding of a request that names
    nothing; about: what each worker said of its model."""
    config = asdict(settings)
    config["api_key_file"] = None if settings.api_key_file is None else "(set)"
    return {
        "model": settings.model.name,
        "api_key": has_key,
        "versions": versions(),
        "config": config,
        "decoding": describe(preset),
        "workers": {str(worker): dict(told) for worker, told in sorted(about.items())},
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
            found[name] = "unknown"
    return found
