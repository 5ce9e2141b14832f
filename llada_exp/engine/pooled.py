"""A step of the device path, in numbers: which places of the K/V pool its tokens write, and which they see.

Every row has pages of the pool, also one that keeps nothing from pass to pass: its K/V are written before
they are read, so one kind of attention (engine/kernels) serves whole rows and blocks against what was kept.
Knows no tensor and no kernel.

Letters: M tokens of the step, n rows of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llada_exp.engine.batch import Segment
from llada_exp.engine.kv import Slot


@dataclass(frozen=True)
class PooledRows:
    """starts: int64 [n + 1], the packed tokens of row i are [starts[i], starts[i + 1]).
    slots: where the rows' K/V lie. keys: int64 [n], row positions that any of a row's tokens sees.
    limits: int64 [M], how many of its row's first positions a token sees.
    places: int64 [M], where in the pool its K/V go.
    """

    starts: np.ndarray
    slots: tuple[Slot, ...]
    keys: np.ndarray
    limits: np.ndarray
    places: np.ndarray

    @classmethod
    def of(cls, segments: Sequence[Segment]) -> PooledRows:
        """segments: of all rows, in the order of the packed tokens, each with a slot."""
        slots = [segment.slot for segment in segments]
        places, limits = [], []
        for segment, slot in zip(segments, slots, strict=True):
            assert slot is not None
            positions = segment.positions
            places.append(slot.places(np.arange(positions.start, positions.stop)))
            width = segment.stop - segment.start
            limits.append(np.full(width, segment.keys) if segment.limits is None else segment.limits)
        return cls(
            starts=np.array([segments[0].start, *(segment.stop for segment in segments)]),
            slots=tuple(slot for slot in slots if slot is not None),
            keys=np.array([segment.keys for segment in segments]),
            limits=np.concatenate(limits),
            places=np.concatenate(places),
        )

    @property
    def widths(self) -> np.ndarray:
        """int64 [n]: tokens of each row."""
        return np.diff(self.starts)

    @property
    def num_tokens(self) -> int:
        return int(self.starts[-1])


def padded(values: np.ndarray, length: int) -> np.ndarray:
    """As long as `length`: the last one again and again. A repeated token must be the last one in all that it
    sees, too, for it writes the same K/V to the same place; what comes of it is dropped."""
    if not len(values):  # rows of logits of a step that only stores
        return np.zeros(length, dtype=values.dtype)
    return np.pad(values, (0, length - len(values)), mode="edge")
