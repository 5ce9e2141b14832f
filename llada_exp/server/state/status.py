"""What the server says of itself: health, figures, workers, metrics, configuration, as plain values.

Its parts are the supervisor's; the routes only read. Knows no HTTP.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from llada_exp.decoding import describe
from llada_exp.server.processes.shared_state import READY, STARTING, SharedState
from llada_exp.server.processes.worker_watch import WorkerWatch
from llada_exp.server.state.metrics import Metrics
from llada_exp.server.state.waiting import WaitingRequests
from llada_exp.settings import ServeSettings
from llada_exp.types import DecodingParams

RECENT_S = 90.0
"""What the predecessor calls recently active."""
PACKAGES = ("llada_exp", "torch", "transformers", "litserve", "fastapi", "pydantic", "tokenizers")


class ServerStatus:
    """devices: one name a device. was_ready, draining: set by the supervisor."""

    def __init__(
        self,
        settings: ServeSettings,
        devices: Sequence[str],
        waiting: WaitingRequests,
        workers: WorkerWatch,
        shared: SharedState,
    ) -> None:
        self.settings = settings
        self.waiting = waiting
        self.instance_id = uuid.uuid4().hex
        self.created = int(time.time())
        self.was_ready = False
        self.draining = False
        self.metrics = Metrics(self._snapshot)
        self._devices = devices
        self._workers = workers
        self._shared = shared
        self._preset = settings.decoding

    def word(self) -> str:
        """starting | ready | degraded | draining, as /health says it. Not ready before requests are taken."""
        if not self.was_ready and not self.draining:
            return STARTING
        try:
            return overall(self._workers.states(), self._workers.num_workers, self.draining)
        except (EOFError, ConnectionError):  # the process that knows it died: the server ends
            return "draining"

    def all_loaded(self) -> bool:
        return overall(self._workers.states(), self._workers.num_workers, draining=False) == READY

    def takes_requests(self) -> bool:
        """Not before the first worker is ready, nor while the server stops. While a worker restarts, requests
        queue."""
        return self.was_ready and not self.draining

    def preset(self) -> DecodingParams:
        """The decoding of a request that names nothing, as far as it is known: once a worker is ready, the
        model's own block length stands where the configuration has none."""
        if self._preset.block_length is None and (about := self.about()):
            self._preset = with_block_length(self._preset, about)
        return self._preset

    def about(self) -> dict[int, dict[str, Any]]:
        """Worker id -> facts of its model."""
        return dict(self._shared.about)

    def room(self) -> tuple[int, int | None] | None:
        """What a row holds: tokens, and bytes of the longest text of so many; None before a worker is up."""
        facts = next((facts for facts in self.about().values() if "max_length" in facts), None)
        return None if facts is None else (facts["max_length"], facts.get("max_prompt_bytes"))

    def health(self) -> dict[str, Any]:
        word = self.word()
        return {
            "status": word,
            "instance_id": self.instance_id,
            "model": self.settings.model.name,
            "model_loaded": word in ("ready", "degraded") or self.draining,
            "device": ",".join(self._devices),
            "mode": self.settings.mode,
            "batch_processor_active": bool(self._workers.alive()) and not self.draining,
            "workers": self._worker_counts(),
        }

    def _worker_counts(self) -> dict[str, int]:
        """How many are how; nothing where the process that knows it died, and the server ends."""
        with suppress(EOFError, ConnectionError):
            return dict(Counter(state["state"] for state in self._workers.states().values()))
        return {}

    def stats(self, url: str = "") -> dict[str, Any]:
        """Requests and workers, since the start; the predecessor's names beside ours. url: of this server."""
        workers = self.worker_status(url)
        return {
            "status": self.word(),
            "total_workers": self._workers.num_workers,
            "healthy_workers": sum(worker["healthy"] for worker in workers),
            "total_requests": self.waiting.num_requests,
            "uptime_s": round(time.time() - self.created, 1),
            "num_workers": self._workers.num_workers,
            "requests": dict(self.waiting.counters),
            "pending_requests": self.waiting.num_pending,
            "currently_processing": self.waiting.num_processing,
            "workers": workers,
        }

    def worker_summary(self, url: str = "") -> dict[str, Any]:
        """Of all workers, by the predecessor's names. overloaded: answers wait and every worker is busy."""
        workers = self.worker_status(url)
        healthy = [worker for worker in workers if worker["healthy"]]
        waits = self.waiting.num_pending and all(worker["status"] == "busy" for worker in healthy)
        word = "overloaded" if waits else "normal"
        return {
            "timestamp": time.time(),
            "healthy_workers": len(healthy),
            "total_workers": self._workers.num_workers,
            "system_status": word if healthy else "unhealthy",
            "workers": workers,
        }

    def batch_stats(self) -> dict[str, Any]:
        """Queue and batch figures; the engine's counters summed over workers and listed for each."""
        states = sorted(self._workers.states().items())
        histogram: Counter[int] = Counter()
        for _, state in states:
            histogram.update(_engine(state).get("batch_size_histogram") or {})
        steps = sum(histogram.values())
        return {
            "mode": self.settings.mode,
            "max_batch_size": self.settings.batch_size,
            "max_wait_time": self.settings.max_wait_time,
            "pending_requests": self.waiting.num_pending,
            "currently_processing": self.waiting.num_processing,
            "response_buffers": self.waiting.num_open,
            "requests": dict(self.waiting.counters),
            "num_steps": steps,
            "mean_batch_size": round(sum(k * v for k, v in histogram.items()) / steps, 3) if steps else None,
            "batch_size_histogram": {str(size): count for size, count in sorted(histogram.items())},
            "workers": [
                {
                    "worker": worker,
                    "pid": state["pid"],
                    "state": state["state"],
                    "engine": dict(_engine(state)),
                }
                for worker, state in states
            ],
        }

    def worker_status(self, url: str = "") -> list[dict[str, Any]]:
        """One entry a worker; beat_age_s: since its last report. `num_finished` is of its process,
        `requests_served` since the server began."""
        now, states = time.monotonic(), self._workers.states()
        return [
            {
                **self._as_predecessor(worker, states[worker]["state"] == READY, now),
                "url": url,
                "worker": worker,
                "pid": state["pid"],
                "state": state["state"],
                "error": state.get("error"),
                "rows_in_flight": _engine(state).get("rows_in_flight", 0),
                "num_finished": _engine(state).get("num_finished", 0),
                "beat_age_s": round(now - state["beat"], 3),
            }
            for worker, state in sorted(states.items())
        ]

    def _as_predecessor(self, worker: int, is_healthy: bool, now: float) -> dict[str, Any]:
        """A worker by the names that the predecessor's clients read."""
        book = self.waiting.books.of(worker)
        idle_s = max(0.0, now - book.last_activity)
        is_busy = self.waiting.num_running(worker) > 0
        return {
            "worker_id": worker,
            "index": worker,
            "healthy": is_healthy,
            "status": ("busy" if is_busy else "idle") if is_healthy else "unhealthy",
            "requests_served": book.served,
            "errors": book.errors,
            "consecutive_errors": book.consecutive_errors,
            "last_activity_seconds_ago": round(idle_s, 1),
            "recently_active": idle_s < RECENT_S,
        }

    def info(self, has_key: bool) -> dict[str, Any]:
        """Versions and the resolved configuration, without the key."""
        config = asdict(self.settings)
        config["api_key_file"] = None if self.settings.api_key_file is None else "(set)"
        return {
            "instance_id": self.instance_id,
            "model": self.settings.model.name,
            "api_key": has_key,
            "versions": versions(),
            "config": config,
            "decoding": describe(self.preset()),
            "workers": {str(worker): dict(facts) for worker, facts in sorted(self.about().items())},
        }

    def _snapshot(self) -> dict[str, Any]:
        labels = {"model": self.settings.model.name, "mode": self.settings.mode}
        return {
            "queue": self.waiting.num_pending,
            "processing": self.waiting.num_processing,
            "jobs": dict(self.waiting.counters),
            "info": labels | {name: versions()[name] for name in ("llada_exp", "torch")},
            "workers": self._workers.states(),
        }


def overall(states: Mapping[int, Mapping[str, Any]], num_workers: int, draining: bool) -> str:
    """starting | ready | degraded | draining."""
    if draining:
        return "draining"
    counts = Counter(state["state"] for state in states.values())
    if counts[READY] >= num_workers:
        return "ready"
    return "degraded" if counts[READY] else "starting"


def with_block_length(preset: DecodingParams, about: Mapping[int, Mapping[str, Any]]) -> DecodingParams:
    """The preset; where it names no block length, with the one that the workers report of their model."""
    lengths = (facts["block_length"] for facts in about.values() if "block_length" in facts)
    return preset if preset.block_length is not None else replace(preset, block_length=next(lengths, None))


def versions() -> dict[str, str]:
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
            installed[name] = "unknown"
    return installed


def _engine(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The engine's counters, as a worker last reported them."""
    return state.get("engine") or {}
