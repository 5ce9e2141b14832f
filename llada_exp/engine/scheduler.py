"""Which requests run in the next step. Integers only: no tensors, no clock, no tokens.

Admission is first come, first served, while rows are free. A step's work is bounded by a budget
of positions, because positions are what costs time. A request that is not chosen waits: load
never changes the sequence of passes of a request, only when they happen.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping


class Scheduler:
    """num_rows: rows in flight at most. max_positions: positions forwarded in a step at most,
    except that a request which alone exceeds it runs alone."""

    def __init__(self, num_rows: int, max_positions: int) -> None:
        if num_rows < 1:
            raise ValueError(f"batch_size is {num_rows}; expected an integer >= 1")
        if max_positions < 1:
            raise ValueError(f"max_positions is {max_positions}; expected an integer >= 1")
        self.num_rows = num_rows
        self.max_positions = max_positions
        self._waiting: OrderedDict[str, int] = OrderedDict()
        self._running: OrderedDict[str, int] = OrderedDict()

    @property
    def waiting(self) -> list[str]:
        return list(self._waiting)

    @property
    def running(self) -> list[str]:
        """Oldest first."""
        return list(self._running)

    @property
    def free_rows(self) -> int:
        """Rows that neither a running nor a waiting request will take."""
        taken = sum(self._running.values()) + sum(self._waiting.values())
        return max(0, self.num_rows - taken)

    def add(self, request_id: str, num_rows: int) -> None:
        """Raises ValueError where the request can never be admitted."""
        if num_rows > self.num_rows:
            raise ValueError(f"the request needs {num_rows} rows; batch_size is {self.num_rows}")
        assert request_id not in self._waiting
        assert request_id not in self._running
        self._waiting[request_id] = num_rows

    def remove(self, request_id: str) -> None:
        self._waiting.pop(request_id, None)
        self._running.pop(request_id, None)

    def admit(self) -> list[str]:
        """Move waiting requests to running, in order of arrival, while their rows are free."""
        free = self.num_rows - sum(self._running.values())
        admitted = []
        while self._waiting:
            request_id, rows = next(iter(self._waiting.items()))
            if rows > free:
                break
            free -= rows
            del self._waiting[request_id]
            self._running[request_id] = rows
            admitted.append(request_id)
        return admitted

    def choose(self, costs: Mapping[str, int]) -> list[str]:
        """Running requests of the next step, given the positions each would forward. Those left
        out come first in the next one."""
        chosen: list[str] = []
        used = 0
        for request_id in self._running:
            cost = costs[request_id]
            if chosen and used + cost > self.max_positions:
                continue
            chosen.append(request_id)
            used += cost
        if len(chosen) < len(self._running):
            for request_id in chosen:
                self._running.move_to_end(request_id)
        return chosen
