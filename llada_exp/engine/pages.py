"""Pages of the K/V memory: which are free, and which a row gets. Integers only: no tensors, no rows.

A row gets one run of pages where any is long enough: the shortest such run, so that long ones stay whole,
and rows of equal length fill each other's gaps. Otherwise its pages lie apart, and it is served all the same:
what is free is never lost to fragments, and nothing is ever moved.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Collection, Sequence

PAGE = 16
"""Positions of a page. On average a row leaves half of one unused, and it holds whole blocks of 4, 8 and 16;
two make one of 32. Smaller ones make lists longer, and no row shorter where bits are exact: there it is
rounded up to the keys of an attention call (engine/attention.py)."""


def num_pages(positions: int) -> int:
    """Pages that hold so many positions."""
    return -(-positions // PAGE)


class PagePool:
    """Pages [0, size), at first all free. stale: those that hold what a row before left in them."""

    def __init__(self, size: int) -> None:
        self.size = self.num_free = size
        self.stale: set[int] = set()
        self._runs: list[tuple[int, int]] = [(0, size)] if size else []  # free [start, stop), ascending

    def take(self, count: int) -> list[int]:
        """So many free pages, in a row's order; neighbours where a run of free ones is long enough."""
        assert count <= self.num_free
        self.num_free -= count
        fitting = [(stop - start, start) for start, stop in self._runs if stop - start >= count]
        if fitting and count:
            _, start = min(fitting)
            self._cut(start, count)
            return list(range(start, start + count))
        pages: list[int] = []
        while len(pages) < count:  # few pieces: the longest runs first
            start, stop = max(self._runs, key=lambda run: (run[1] - run[0], -run[0]))
            length = min(stop - start, count - len(pages))
            self._cut(start, length)
            pages += range(start, start + length)
        return pages

    def _cut(self, start: int, count: int) -> None:
        """Take the first pages of the run that begins at `start`."""
        place = bisect.bisect_left(self._runs, (start, start))
        _, stop = self._runs[place]
        self._runs[place : place + 1] = [(start + count, stop)] if start + count < stop else []

    def give_back(self, pages: Collection[int]) -> None:
        self.stale.update(pages)
        for start, stop in _runs_of(sorted(pages)):
            self.num_free += stop - start
            place = bisect.bisect_left(self._runs, (start, start))
            before = self._runs[place - 1] if place else None
            after = self._runs[place] if place < len(self._runs) else None
            assert before is None or before[1] <= start, "a page is given back once"
            assert after is None or stop <= after[0], "a page is given back once"
            first, last = place, place
            if before is not None and before[1] == start:
                first, start = place - 1, before[0]
            if after is not None and after[0] == stop:
                last, stop = place + 1, after[1]
            self._runs[first:last] = [(start, stop)]


def _runs_of(pages: Sequence[int]) -> list[tuple[int, int]]:
    """[start, stop) of neighbours among ascending pages."""
    runs: list[tuple[int, int]] = []
    for page in pages:
        if runs and runs[-1][1] == page:
            runs[-1] = (runs[-1][0], page + 1)
        else:
            runs.append((page, page + 1))
    return runs


def is_run(pages: Sequence[int]) -> bool:
    """Whether each page is the neighbour of the one before it."""
    return all(b == a + 1 for a, b in itertools.pairwise(pages))
