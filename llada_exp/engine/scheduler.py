"""Which requests run in the next step. Integers only: no tensors, no clock, no tokens.

Admission is first come, first served, while rows and memory for their K/V are free. Nobody is overtaken, so
that short requests never starve a long one: what the first in line lacks becomes free as others finish, even
if a short one behind it would fit at once. A step's work is bounded by a budget of positions, because those
are what costs time. A request that is not chosen waits: load never changes the sequence of passes of a
request, only when they happen.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

SCHEDULING = ("continuous", "lockstep")
PATIENCE = 4  # steps that a REFRESH pass is put off for BLOCK passes, at most
GROW_AFTER, LONGEST_GROW_AFTER = 64, 4096
"""Whole steps after which a budget that was lowered doubles; twice as many after each time that it had to be
lowered again, up to the latter."""


class Phase(Enum):
    """REFRESH: a pass over (much of) a row. BLOCK: over a block against kept K/V."""

    REFRESH = "refresh"
    BLOCK = "block"


@dataclass(frozen=True)
class Need:
    """What a request's next pass costs, in positions over all its rows."""

    phase: Phase
    positions: int


@dataclass
class _InFlight:
    num_rows: int
    waited: int = 0


class Scheduler:
    """num_rows: rows in flight at most. max_positions: positions forwarded in a step at most,
    except that a request which alone exceeds it runs alone; lowered for a while where memory is short.

    scheduling: `continuous` admits at every step. `lockstep` admits only when nothing is in
    flight and then runs all rows in every step: the predecessors' way, kept to measure against.
    """

    def __init__(self, num_rows: int, max_positions: int, scheduling: str = "continuous") -> None:
        if num_rows < 1:
            raise ValueError(f"batch_size is {num_rows}; expected an integer >= 1")
        if max_positions < 1:
            raise ValueError(f"max_positions is {max_positions}; expected an integer >= 1")
        if scheduling not in SCHEDULING:
            raise ValueError(f"scheduling is {scheduling!r}; expected one of {', '.join(SCHEDULING)}")
        self.num_rows = num_rows
        self.max_positions = self._most_positions = max_positions
        self._grow_after, self._whole_steps = GROW_AFTER, 0
        self._lockstep = scheduling == "lockstep"
        self._is_short = False
        self._waiting: OrderedDict[str, int] = OrderedDict()
        self._running: OrderedDict[str, _InFlight] = OrderedDict()

    @property
    def waiting(self) -> list[str]:
        return list(self._waiting)

    @property
    def running(self) -> list[str]:
        """In order of admission."""
        return list(self._running)

    @property
    def rows_in_flight(self) -> int:
        return sum(running.num_rows for running in self._running.values())

    @property
    def free_rows(self) -> int:
        """Rows that a request added now would find free in the next step: none while another waits for
        memory."""
        if (self._lockstep and self._running) or (self._is_short and self._waiting):
            return 0
        return max(0, self.num_rows - self.rows_in_flight - sum(self._waiting.values()))

    def add(self, request_id: str, num_rows: int) -> None:
        """Raises ValueError where the request can never be admitted."""
        if num_rows > self.num_rows:
            raise ValueError(f"the request needs {num_rows} rows; batch_size is {self.num_rows}")
        assert request_id not in self._waiting
        assert request_id not in self._running
        self._waiting[request_id] = num_rows

    def lower_budget(self, positions: int) -> None:
        """Forward no more than so many positions in a step for now: more did not fit the memory."""
        if self.max_positions < self._most_positions:
            self._grow_after = min(2 * self._grow_after, LONGEST_GROW_AFTER)
        self.max_positions = max(1, min(self.max_positions, positions))
        self._whole_steps = 0

    def count_whole_step(self) -> None:
        """Of a step that fitted: after many of them a lowered budget grows back."""
        self._whole_steps += 1
        if self._whole_steps < self._grow_after:
            return
        self._whole_steps = 0
        if self.max_positions == self._most_positions:
            self._grow_after = GROW_AFTER
        self.max_positions = min(2 * self.max_positions, self._most_positions)

    def remove(self, request_id: str) -> None:
        self._waiting.pop(request_id, None)
        self._running.pop(request_id, None)

    def admit(self, reserve: Callable[[str], bool] = lambda request_id: True) -> list[str]:
        """Move waiting requests to running, in order of arrival, while their rows are free and `reserve` has
        memory for them. reserve: takes it, or answers False where too little is free."""
        self._is_short = False
        if self._lockstep and self._running:
            return []
        free = self.num_rows - self.rows_in_flight
        admitted = []
        while self._waiting:
            request_id, rows = next(iter(self._waiting.items()))
            if rows > free:
                break
            if not reserve(request_id):
                assert self._running, "a request that alone lacks memory is never added"
                self._is_short = True
                break
            free -= rows
            del self._waiting[request_id]
            self._running[request_id] = _InFlight(rows)
            admitted.append(request_id)
        return admitted

    def choose(self, needs: Mapping[str, Need]) -> list[str]:
        """Running requests of the next step, by what each would forward; those without a need wait for
        another's pass.

        BLOCK passes come first, for they are cheap and gain from each other; REFRESH passes take
        what the budget leaves, so that they are staggered; one put off for PATIENCE steps goes
        before all others. Within a phase the longest waiting goes first, then the oldest.
        """
        if self._lockstep:
            return [request_id for request_id in self._running if request_id in needs]
        chosen: set[str] = set()
        used = 0
        ready = [request_id for request_id in self._running if request_id in needs]
        for request_id in sorted(ready, key=lambda name: self._rank(name, needs[name])):
            cost = needs[request_id].positions
            if chosen and used + cost > self.max_positions:
                continue
            chosen.add(request_id)
            used += cost
        for request_id, running in self._running.items():
            running.waited = 0 if request_id in chosen else running.waited + (request_id in needs)
        return [request_id for request_id in self._running if request_id in chosen]

    def _rank(self, request_id: str, need: Need) -> tuple[bool, bool, int]:
        waited = self._running[request_id].waited
        in_time = waited < PATIENCE
        return (in_time, in_time and need.phase is Phase.REFRESH, -waited)
