"""What the server tells of itself beyond its health: figures, workers, metrics, configuration."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from llada_exp.server.state.metrics import Metrics
from llada_exp.server.state.status import batch_stats, info, versions, worker_status

if TYPE_CHECKING:
    from llada_exp.server.app import Server


class Figures:
    """metrics: told of every request that ends."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.metrics = Metrics(self._snapshot)

    def batch_stats(self) -> dict[str, Any]:
        return batch_stats(self._server.settings, self._server.exchange, self._states())

    def stats(self) -> dict[str, Any]:
        """Requests and workers, since the start."""
        server = self._server
        return {
            "status": server.status(),
            "uptime_s": round(time.time() - server.created, 1),
            "num_workers": server.num_workers,
            "requests": dict(server.exchange.counters),
            "pending_requests": server.exchange.num_pending,
            "currently_processing": server.exchange.num_processing,
            "workers": self.worker_status(),
        }

    def worker_status(self) -> list[dict[str, Any]]:
        return worker_status(self._states())

    def info(self) -> dict[str, Any]:
        server = self._server
        told = info(server.settings, server.preset(), server.key_check.is_set, dict(server.shared.about))
        return {"instance_id": server.instance_id, **told}

    def _states(self) -> dict[int, dict[str, Any]]:
        return self._server.guard.states()

    def _snapshot(self) -> dict[str, Any]:
        exchange, settings = self._server.exchange, self._server.settings
        found = {name: version for name, version in versions().items() if name in ("llada_exp", "torch")}
        return {
            "queue": exchange.num_pending,
            "processing": exchange.num_processing,
            "jobs": dict(exchange.counters),
            "info": {"model": settings.model.name, "mode": settings.mode} | found,
            "workers": self._states(),
        }
