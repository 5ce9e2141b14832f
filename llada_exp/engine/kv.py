"""K/V of cached rows, in pages (engine/pages.py): a row reserves what it needs, its prompt and canvas, before
its first pass, and keeps it to its end; leading blocks may be held in common (engine/prefixes.py). Nothing is
ever moved or copied.

Where a row's pages are one run, its K/V are read as a view. Where they are not, they are gathered by index:
the same bits, for a copy of the keys and values read, in each layer of each pass. Knows which row has which
pages, and nothing of what the rows decode.

Letters: L layers, S positions of the pool, n rows read together, T keys of each, K key/value heads, D head
width.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llada_exp.engine.pages import PAGE, PagePool, is_run, num_pages
from llada_exp.engine.prefixes import NO_PREFIX, Prefix, PrefixIndex
from llada_exp.models.base import Model

KV = tuple[Tensor, Tensor]
"""K and V of the pool, each [L, S, K, D]."""
_ALIGNMENT = 64
"""Bytes, as torch allocates: a product's bits may follow from it."""


@dataclass(frozen=True)
class Slot:
    """Where a row's K/V lie in the pool: `num_positions` from `start` on, or where `index` int64
    [num_positions] says."""

    start: int
    num_positions: int
    index: np.ndarray | None = None

    @classmethod
    def of(cls, pages: Sequence[int]) -> Slot:
        index = None
        if not is_run(pages):
            index = (np.array(pages)[:, None] * PAGE + np.arange(PAGE)).reshape(-1)
        return cls(pages[0] * PAGE, len(pages) * PAGE, index)

    def places(self, positions: np.ndarray) -> np.ndarray:
        """int64: of these row positions, in the pool."""
        return self.start + positions if self.index is None else self.index[positions]

    def target(self, positions: slice, device: torch.device) -> slice | Tensor:
        """What to write these row positions to."""
        if self.index is None:
            return slice(self.start + positions.start, self.start + positions.stop)
        return torch.from_numpy(self.index[positions]).to(device)


def are_even(slots: Sequence[Slot], num_keys: int) -> bool:
    """Whether the first `num_keys` positions of each are at even distances in the pool."""
    distances = {b.start - a.start for a, b in itertools.pairwise(slots)}
    return len(distances) <= 1 and all(s.index is None and num_keys <= s.num_positions for s in slots)


@dataclass(frozen=True)
class KVReading:
    """The first T positions of n rows as one tensor [n, T, K, D]: a view where the rows are runs that begin
    at even distances, else gathered by index int64 [n * T]."""

    num_rows: int
    num_keys: int
    start: int
    distance: int
    index: Tensor | None

    @classmethod
    def of(cls, slots: Sequence[Slot], num_keys: int, device: torch.device) -> KVReading:
        """slots: in the order of their starts. A row that holds fewer than `num_keys` positions repeats its
        last one, for what a mask hides is still multiplied, and another row's chance NaN would pass it."""
        index = None
        if not are_even(slots, num_keys):
            held = [np.minimum(np.arange(num_keys), s.num_positions - 1) for s in slots]
            places = [s.places(positions) for positions, s in zip(held, slots, strict=True)]
            index = torch.from_numpy(np.concatenate(places)).to(device)
        distance = slots[1].start - slots[0].start if len(slots) > 1 else 0
        return cls(len(slots), num_keys, slots[0].start, distance, index)

    def __call__(self, pool: Tensor) -> Tensor:
        """pool: [S, K, D] of a layer."""
        if self.index is not None:
            return pool.index_select(0, self.index).unflatten(0, (self.num_rows, self.num_keys))
        step = pool.stride(0)
        return pool.as_strided(
            (self.num_rows, self.num_keys, *pool.shape[1:]),
            (self.distance * step, step, *pool.stride()[1:]),
            pool.storage_offset() + self.start * step,
        )


@dataclass(eq=False)
class _PagedRow:
    """slot: of the pages. is_clean: whether what rows before left in them is gone."""

    pages: list[int]
    slot: Slot
    is_clean: bool = False


class KVMemory:
    """keys, values: [L, S, K, D] in the model's dtype, allocated at the first use, S = `num_positions` in
    whole pages. On a CPU those that no row touches cost no memory."""

    def __init__(self, model: Model, num_positions: int) -> None:
        shape = model.shape
        self.pool = PagePool(num_positions // PAGE)
        self.prefixes = PrefixIndex(self.pool)
        self._size = (shape.n_layers, self.pool.size * PAGE, shape.n_kv_heads, shape.head_dim)
        self._device, self._dtype = model.device, model.dtype
        self._kv: KV | None = None
        self._rows: dict[Hashable, _PagedRow] = {}

    def __len__(self) -> int:
        """Rows that hold pages."""
        return len(self._rows)

    @property
    def num_positions(self) -> int:
        return self.pool.size * PAGE

    def stats(self) -> dict[str, int]:
        """Positions in all, and those that no row in flight holds; blocks that might be shared, and were."""
        return {
            "kv_positions": self.num_positions,
            "kv_positions_free": (self.pool.num_free + self.prefixes.num_idle_pages) * PAGE,
            "num_prefix_blocks": self.prefixes.num_blocks,
            "num_shared_prefix_blocks": self.prefixes.num_shared_blocks,
        }

    @property
    def tensors(self) -> KV:
        if self._kv is None:
            # Zeros, for what is masked is still multiplied: a chance NaN would pass the mask.
            self._kv = (self._zeros(), self._zeros())
        return self._kv

    def _zeros(self) -> Tensor:
        """[L, S, K, D]. torch.zeros writes them on a CPU, which takes the memory of every row that might ever
        come, and a second for 2 GB; the system hands out pages of zeros when they are touched."""
        if self._device.type != "cpu":
            return torch.zeros(self._size, device=self._device, dtype=self._dtype)
        num_bytes = math.prod(self._size) * self._dtype.itemsize
        raw = np.zeros(num_bytes + _ALIGNMENT, dtype=np.uint8)
        start = -raw.ctypes.data % _ALIGNMENT
        return torch.from_numpy(raw[start : start + num_bytes]).view(self._dtype).view(self._size)

    def reserve(self, lengths: dict[Hashable, int], prefix: Prefix = NO_PREFIX) -> bool:
        """Pages for rows of such lengths, by name: for all of them, or where too few are free for none.
        prefix: of a lone row, what it may have in common with others."""
        counts = {name: num_pages(length) for name, length in lengths.items()}
        assert len(counts) == 1 or not prefix.keys
        if len(counts) > 1 and not self.prefixes.make_room(sum(counts.values())):
            return False
        for name, count in counts.items():
            assert name not in self._rows
            pages = self.prefixes.take(name, prefix, count)
            if pages is None:
                return False
            self._rows[name] = _PagedRow(pages, Slot.of(pages))
        return True

    def slot(self, name: Hashable) -> Slot:
        """Of a row that has reserved, for a pass. Before its first one what other rows left in its pages is
        wiped: their NaN would pass its masks."""
        row = self._rows[name]
        if not row.is_clean:
            self._wipe([page for page in row.pages if page in self.pool.stale])
        row.is_clean = True
        return row.slot

    def wipe(self) -> None:
        """Wipe all pages that a row before left something in, whoever gets them: for a pass that multiplies
        with other places than its rows' own."""
        self._wipe(sorted(self.pool.stale))

    def _wipe(self, stale: list[int]) -> None:
        if stale:
            places = Slot.of(stale)
            target = places.target(slice(0, places.num_positions), self._device)
            for tensor in self.tensors:
                tensor[:, target] = 0
            self.pool.stale.difference_update(stale)

    def release(self, name: Hashable) -> None:
        """Let go of the row's pages, if it has any."""
        row = self._rows.pop(name, None)
        if row is not None:
            shared = self.prefixes.release(name)
            self.pool.give_back([page for page in row.pages if page not in shared])
