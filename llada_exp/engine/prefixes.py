"""Leading blocks that requests have in common, and whose K/V they share. Integers only: no tensors.

Where blocks see nothing beyond themselves, K/V of a prompt's whole blocks depend on the ids up to their end
and on B alone. So they are kept under a key, a hash of the key before them, their ids and B, and a request
that begins with the same blocks, now or later, holds the same pages. They are kept in units of whole pages
that are also whole blocks.

A unit is made by the first request that gets as far; others that hold it wait until it is there, and where
its maker goes before that, the next one makes it. What nobody holds stays, complete, until an admission needs
its pages: what was held last goes last, and of one request's units the last goes first, so that none loses
its predecessor.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from llada_exp.engine.pages import PAGE, PagePool


@dataclass(frozen=True)
class Prefix:
    """The leading units of a prompt: a key for each, of so many positions; block_length: B."""

    keys: tuple[bytes, ...]
    unit: int
    block_length: int

    @classmethod
    def of(cls, ids: np.ndarray, block_length: int) -> Prefix:
        """ids int64: as many as may be shared at most."""
        unit = math.lcm(PAGE, block_length)
        key, keys = block_length.to_bytes(8, "little"), []
        for start in range(0, len(ids) - unit + 1, unit):
            data = key + ids[start : start + unit].astype("<i8").tobytes()
            key = hashlib.blake2b(data, digest_size=16).digest()
            keys.append(key)
        return cls(tuple(keys), unit, block_length)

    @property
    def num_pages(self) -> int:
        """Of a unit."""
        return self.unit // PAGE


NO_PREFIX = Prefix((), PAGE, PAGE)


@dataclass(eq=False)
class PrefixUnit:
    """pages: of its K/V. place: how many units stand before it. maker: the row that is to compute it.
    num_holders: rows that read it. last_use: when the last of them went."""

    key: bytes
    pages: Sequence[int]
    place: int
    maker: Hashable | None = None
    is_complete: bool = False
    num_holders: int = 0
    last_use: int = 0


class PrefixIndex:
    """Units by key, and which row holds which. Pages come from `pool` and go back to it.

    num_blocks:        blocks of requests that might have been shared.
    num_shared_blocks: those that a request did not compute itself.
    """

    def __init__(self, pool: PagePool) -> None:
        self._pool = pool
        self._units: dict[bytes, PrefixUnit] = {}
        self._rows: dict[Hashable, tuple[Prefix, list[PrefixUnit]]] = {}
        self._clock = 0
        self.num_blocks = self.num_shared_blocks = 0

    @property
    def num_idle_pages(self) -> int:
        """Of units that nobody holds."""
        return sum(len(unit.pages) for unit in self._units.values() if not unit.num_holders)

    def take(self, name: Hashable, prefix: Prefix, count: int) -> list[int] | None:
        """Pages of a row that needs `count`: those of its prefix first, of which it holds what there is. None
        where too few are free, and could be."""
        held = [self._units[key] for key in prefix.keys if key in self._units]
        num_new = count - sum(len(unit.pages) for unit in held)
        for unit in held:
            unit.num_holders += 1
        if not self.make_room(num_new):
            for unit in held:
                unit.num_holders -= 1
            return None
        pages = self._pool.take(num_new)
        fresh = iter(pages)
        units = []
        for place, key in enumerate(prefix.keys):
            if key not in self._units:
                pages_of_unit = [next(fresh) for _ in range(prefix.num_pages)]
                self._units[key] = PrefixUnit(key, pages_of_unit, place, num_holders=1)
            units.append(self._units[key])
        self._rows[name] = (prefix, units)
        self.num_blocks += len(units) * prefix.unit // prefix.block_length
        return [page for unit in units for page in unit.pages] + list(fresh)

    def make_room(self, count: int) -> bool:
        """See that so many pages are free."""
        if count > self._pool.num_free + self.num_idle_pages:
            return False
        idle = [unit for unit in self._units.values() if not unit.num_holders]
        for unit in sorted(idle, key=lambda unit: (unit.last_use, -unit.place)):
            if count <= self._pool.num_free:
                break
            self._drop(unit)
        return True

    def _drop(self, unit: PrefixUnit) -> None:
        del self._units[unit.key]
        self._pool.give_back(unit.pages)

    def proceed(self, name: Hashable, context: int) -> int | None:
        """How many of the row's first positions have K/V, `context` of them by its own passes or a call
        before; None while another row makes what comes next. Where it is a number, the row itself goes on."""
        if name not in self._rows:
            return context
        prefix, units = self._rows[name]
        place = first = context // prefix.unit
        while place < len(units) and units[place].is_complete:
            place += 1
        if place > first:
            context = place * prefix.unit
            self.num_shared_blocks += (place - first) * prefix.unit // prefix.block_length
        if place < len(units):
            units[place].maker = units[place].maker or name
            if units[place].maker != name:
                return None
        return context

    def complete(self, name: Hashable, context: int) -> None:
        """So many of the row's first positions have K/V now."""
        if name in self._rows:
            prefix, units = self._rows[name]
            for unit in units[: context // prefix.unit]:
                unit.is_complete = True

    def release(self, name: Hashable) -> set[int]:
        """Of a row that goes: its pages that others may hold, which are not given back by it."""
        _, units = self._rows.pop(name, (None, []))
        self._clock += 1
        for unit in units:
            unit.num_holders -= 1
            unit.last_use = self._clock
            unit.maker = None if unit.maker == name else unit.maker
            if not unit.num_holders and not unit.is_complete:
                self._drop(unit)
        return {page for unit in units for page in unit.pages}
