"""Did a load measure anything? Was the server there all the while, and were enough requests answered?

What is found is told as the point's problem: its figures are written, and it counts as failed.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping
from typing import Any

from llada_exp.bench.client import LoadResult, RequestRecord
from llada_exp.bench.metrics import failed_share
from llada_exp.clients.http import health
from llada_exp.runs.servers import Endpoint, served_model

REAPED_S = 2.0
"""A killed process's connections break a moment before the process itself is seen to have ended."""


class ServerLife:
    """One server during one load: make it before, ask `problem` after."""

    def __init__(self, target: Endpoint) -> None:
        self.target = target
        self.instance = health(target.url).get("instance_id")

    def gone(self) -> bool:
        """Whether the process of a server of our own runs no more; quick."""
        return self.target.handle is not None and self.target.handle.process.poll() is not None

    def problem(self, result: LoadResult) -> str | None:
        """That the server did not live through the load, and what that cost; None where it did."""
        broken = [r for r in result.records if not r.ok and r.status is None]
        if (why := self._end(bool(broken))) is None:
            return None
        return f"{of_requests(result.records)} while the server went: {why}"

    def _end(self, broken: bool) -> str | None:
        if self.target.handle is not None:
            if broken:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.target.handle.process.wait(REAPED_S)
            return self.target.handle.ended()
        now = health(self.target.url).get("instance_id")
        if self.instance is not None and now not in (None, self.instance):
            return f"another one answers at {self.target.url} now, it was started anew"
        if broken and now is None:  # a server of another make may have no /health
            try:
                served_model(self.target.url, self.target.key)
            except RuntimeError as error:
                return str(error)
        return None


def too_many_failed(result: LoadResult, max_failed: float) -> str | None:
    """That more requests failed than are tolerated, and of what; None where not. max_failed: their share."""
    share = failed_share(result.records)
    if share is None or share <= max_failed:
        return None
    first = next(r for r in result.records if not r.ok)
    return (
        f"{of_requests(result.records)}, the first with {first.status or 'no answer'}: {first.error};"
        f" max_failed is {max_failed:g}"
    )


def of_requests(records: list[RequestRecord]) -> str:
    return f"{sum(not r.ok for r in records)} of {len(records)} requests failed"


def is_sound(row: Mapping[str, Any]) -> bool:
    """Whether a row's figures may be compared with others'; rows of before have no such column."""
    return row.get("problem") is None
