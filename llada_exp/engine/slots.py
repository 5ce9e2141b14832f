"""K/V of cached rows: one slot a row, the rows in flight in the first slots.

Rows stand in the order of their rank (who asks for a slot names it), so that a step reads rows of one
rank as a view, without copying. A new row goes behind its rank: the first row of each higher rank
moves behind its own. A finished row's slot is filled by the last of its rank, that one's by the last
of the next, and so on: with one rank, simply by the last row. Knows which row has which slot, and
nothing of what the rows decode.

Letters: L layers, S slots, T longest row, K key/value heads, D head width.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from llada_exp.models.base import Model


@dataclass
class _SlotRow:
    """slot and rank of a row; length: of its positions that hold K/V, and that a move must copy."""

    name: Hashable
    rank: int
    slot: int
    length: int = 0


class KVSlots:
    """keys, values: [L, S, T, K, D] in the model's dtype, allocated at the first use. On a CPU the
    pages that no row touches cost no memory."""

    def __init__(self, model: Model, num_slots: int, max_length: int) -> None:
        shape = model.shape
        self._size = (shape.n_layers, num_slots, max_length, shape.n_kv_heads, shape.head_dim)
        self._device, self._dtype = model.device, model.dtype
        self._kv: tuple[Tensor, Tensor] | None = None
        self._rows: list[_SlotRow] = []  # by slot
        self._by_name: dict[Hashable, _SlotRow] = {}

    def __len__(self) -> int:
        """Slots in use; they are the first ones."""
        return len(self._rows)

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        if self._kv is None:
            # Zeros, for what is masked is still multiplied: a chance NaN would pass the mask.
            keys = torch.zeros(self._size, device=self._device, dtype=self._dtype)
            self._kv = (keys, torch.zeros_like(keys))
        return self._kv

    def take(self, name: Hashable, rank: int = 0) -> None:
        """Give the row a slot, if it has none. Other rows' slots may change."""
        if name in self._by_name:
            return
        assert len(self._rows) < self._size[1], "rows in flight never exceed the slots"
        hole = len(self._rows)
        row = _SlotRow(name, rank, hole)
        self._rows.append(row)
        while hole and self._rows[hole - 1].rank > rank:
            first = self._first(self._rows[hole - 1].rank)
            self._move(self._rows[first], hole)
            hole = first
        self._put(row, hole)
        self._by_name[name] = row

    def use(self, name: Hashable, length: int) -> int:
        """The row's slot for this step, which will keep positions below `length`."""
        row = self._by_name[name]
        row.length = max(row.length, length)
        return row.slot

    def wipe(self, name: Hashable) -> None:
        """Forget what the row's slot keeps, if it has one."""
        if name in self._by_name and self._kv is not None:
            for tensor in self._kv:
                tensor[:, self._by_name[name].slot].zero_()

    def release(self, name: Hashable) -> None:
        """Free the row's slot, if it has one."""
        row = self._by_name.pop(name, None)
        if row is None:
            return
        hole = row.slot
        while hole < len(self._rows) - 1:
            last = self._first(self._rows[hole + 1].rank + 1) - 1
            self._move(self._rows[last], hole)
            hole = last
        self._rows.pop()

    def _first(self, rank: int) -> int:
        """The first slot of that rank or a higher one."""
        return next((i for i, row in enumerate(self._rows) if row.rank >= rank), len(self._rows))

    def _move(self, row: _SlotRow, slot: int) -> None:
        """Copy what it has kept into a free slot."""
        if row.length:
            for tensor in self.tensors:
                tensor[:, slot, : row.length].copy_(tensor[:, row.slot, : row.length])
        self._put(row, slot)

    def _put(self, row: _SlotRow, slot: int) -> None:
        row.slot = slot
        self._rows[slot] = row
