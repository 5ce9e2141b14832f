"""K/V of cached rows: one slot a row, the rows in flight in the first slots.

A finished row's slot is filled by the last one, so that a step reads the first slots as a view
without copying. Knows which row has which slot, and nothing of what the rows decode.

Letters: L layers, S slots, T longest row, H heads, D head width.
"""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor

from llada_exp.models.base import Model


class KVSlots:
    """keys, values: [L, S, T, H, D] in the model's dtype, allocated at the first use. On a CPU the
    pages that no row touches cost no memory."""

    def __init__(self, model: Model, num_slots: int, max_length: int) -> None:
        shape = model.shape
        self._size = (shape.n_layers, num_slots, max_length, shape.n_heads, shape.head_dim)
        self._device, self._dtype = model.device, model.dtype
        self._kv: tuple[Tensor, Tensor] | None = None
        self._owner: list[Hashable] = []
        self._slot: dict[Hashable, int] = {}
        self._used: dict[Hashable, int] = {}

    def __len__(self) -> int:
        """Slots in use; they are the first ones."""
        return len(self._owner)

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        if self._kv is None:
            keys = torch.empty(self._size, device=self._device, dtype=self._dtype)
            self._kv = (keys, torch.empty_like(keys))
        return self._kv

    def slot(self, row: Hashable, length: int) -> int:
        """The row's slot, taken now if it has none. `length`: positions that it will keep."""
        if row not in self._slot:
            assert len(self._owner) < self._size[1], "rows in flight never exceed the slots"
            self._slot[row] = len(self._owner)
            self._owner.append(row)
        self._used[row] = max(length, self._used.get(row, 0))
        return self._slot[row]

    def release(self, row: Hashable) -> None:
        """Free the row's slot, if it has one; the last slot's row moves into it."""
        slot = self._slot.pop(row, None)
        if slot is None:
            return
        self._used.pop(row)
        mover = self._owner.pop()
        if mover == row:
            return
        last, length = self._slot[mover], self._used[mover]
        for kept in self.tensors:
            kept[:, slot, :length].copy_(kept[:, last, :length])
        self._owner[slot] = mover
        self._slot[mover] = slot
