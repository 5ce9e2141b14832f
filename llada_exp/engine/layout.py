"""How one row is laid out: its blocks, what each of its positions sees, whose logits speak of it.

Arithmetic on the row's lengths and the facts of its model (models/base.py). Knows no tokens and no tensors.
All positions are row positions: 0 is the first prompt token.

Letters: P prompt length, B block length, T row length.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from llada_exp.models.base import Visibility


@dataclass(frozen=True)
class Layout:
    """A prompt and the blocks of its answer.

    On a grid that starts at the prompt's end the last block is shorter where `max_tokens` is no multiple of
    B. On one anchored at 0 blocks are whole: the first holds the end of the prompt, too, and the last may
    reach beyond `max_tokens` (it is denoised and cut).
    """

    prompt_length: int
    max_tokens: int
    block_length: int
    visibility: Visibility
    shift: int = 0

    @cached_property
    def length(self) -> int:
        """T: prompt and canvas."""
        end = self.prompt_length + self.max_tokens
        return -(-end // self.block_length) * self.block_length if self.visibility.anchored else end

    @cached_property
    def _origin(self) -> int:
        """Where the first block begins."""
        if not self.visibility.anchored:
            return self.prompt_length
        return self.prompt_length // self.block_length * self.block_length

    @cached_property
    def num_blocks(self) -> int:
        return -(-(self.length - self._origin) // self.block_length)

    def bounds(self, block: int) -> tuple[int, int]:
        """[start, stop) of a block; of the first one on an anchored grid, the end of the prompt included."""
        start = min(self._origin + block * self.block_length, self.length)
        return start, min(start + self.block_length, self.length)

    def num_open(self, block: int) -> int:
        """Positions of the block that begin masked."""
        start, stop = self.bounds(block)
        return stop - max(start, self.prompt_length)

    def limits(self, start: int, stop: int, block_start: int) -> np.ndarray | None:
        """int64 [stop - start]: how many of the row's first positions [start, stop) see while the block that
        begins at `block_start` is current; None: all that are forwarded or kept."""
        return self.visibility.limits(start, stop, block_start, self.block_length, self.prompt_length)

    def steps_per_block(self, steps: int) -> int:
        """Denoising steps of a block, of so many over the whole canvas, rounded up."""
        if self.visibility.sees_suffix:
            return -(-steps // self.num_blocks)
        return -(-steps * self.block_length // self.max_tokens)
