"""How much memory decoding takes, before anything is allocated: the plan behind `--plan`.

Arithmetic on shapes; an upper estimate of what a step holds at once. Knows no device but its size.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from llada_exp.engine.attention import pool_positions, row_positions
from llada_exp.engine.forward import CAPTURED
from llada_exp.models.base import FULL, ModelShape, Visibility
from llada_exp.rules import RULES
from llada_exp.types import DecodingParams

RESERVE = 0.06  # of the device: allocator, kernels' workspaces, context


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes, for rows of at most `max_length` positions decoded by default as `params` say.

    weights:      the model in its dtype, what is float32 in any included.
    kv_positions: of the K/V memory that rows share; None: batch_size rows of max_length.
    exact:        as of the engine.
    device_total: what the device has; None where unknown.
    visibility:   of the model: what its attention masks take.
    mix:          mean tokens of prompt and canvas of the requests to be planned for, or None.
    """

    shape: ModelShape
    dtype: torch.dtype
    params: DecodingParams
    batch_size: int
    max_length: int
    max_positions: int
    device_total: int | None
    visibility: Visibility = FULL
    kv_positions: int | None = None
    exact: bool = True
    mix: tuple[int, int] | None = None

    @property
    def weights(self) -> int:
        wide = self.shape.num_wide_parameters
        return (self.shape.num_parameters - wide) * self.dtype.itemsize + wide * 4

    @property
    def kv_per_position(self) -> int:
        """K and V [L, K, D]."""
        shape = self.shape
        return 2 * shape.n_layers * shape.n_kv_heads * shape.head_dim * self.dtype.itemsize

    @property
    def kv_per_row(self) -> int:
        """Of the longest row."""
        return row_positions(self.max_length, self.exact) * self.kv_per_position

    def kv_bytes(self, rows: int) -> int:
        """K/V memory of an engine with so many rows."""
        return pool_positions(self.kv_positions, rows, self.max_length, self.exact) * self.kv_per_position

    @property
    def mean_positions(self) -> int:
        """K/V memory of a request of the mix, in positions: lengths vary, and half of what they are rounded
        up to is left over on average."""
        assert self.mix is not None
        return sum(self.mix) + row_positions(1, self.exact) // 2

    def of_mix(self, rows: int) -> MemoryPlan:
        """The plan for so many requests of the mix at once."""
        return replace(self, batch_size=rows, kv_positions=rows * self.mean_positions)

    def _cached_positions(self, rows: int) -> int:
        """Of K/V that a layer of a step reads. Rows that are read together are padded to the longest: exactly
        by less than a bucket (engine/attention.py), else in two calls (engine/kernels/sdpa.py). Cut at length
        T, the n rows of one take at most n T, and the at most pool / T of the other the longest each."""
        pool = pool_positions(self.kv_positions, rows, self.max_length, self.exact)
        if self.exact:
            return min(rows * self.max_length, 2 * pool)
        return min(rows * self.max_length, math.ceil(2 * math.sqrt(rows * pool * self.max_length)))

    def step_bytes(self, rows: int) -> int:
        """What the largest step of so many rows holds at once: hidden states, the MLP, logits, masks."""
        shape, params, item = self.shape, self.params, self.dtype.itemsize
        # The budget, or one row that alone exceeds it, or all rows.
        positions = min(rows * self.max_length, max(self.max_positions, self.max_length))
        queries, keys = shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
        # residual, normed; q, out; k, v; gate, up, product
        width = 2 * shape.d_model + 2 * queries + 2 * keys + 3 * shape.mlp_hidden
        width += (
            4 * shape.experts_per_token * shape.d_model
        )  # a token's copies: sorted, passed, put back, summed
        rotary = 2 * (queries + keys) * 4  # q and k rotated in float32
        # Key heads of a layer's rows, repeated for a masked product on a GPU (models/attention.py).
        cached = self._cached_positions(rows)
        repeated = 2 * cached * queries * item if keys < queries else 0
        # K/V of a layer's rows, gathered where they do not lie at even distances (engine/kv.py).
        gathered = 0 if self.exact else 2 * cached * keys * item
        block_length = self.visibility.blocks_of(params.block_length)
        logits = rows * block_length * shape.vocab_size * 4 * (3 if params.temperature > 0 else 2)
        state = 2 * rows * RULES[params.rule].state_bytes(block_length, shape.vocab_size)  # old and new
        masks = 0
        if self.visibility.kind != "full":
            # Where positions of a row see differently: a line of the row's keys for each position, and what
            # the widest of the rows' masks is made from (engine/attention.py).
            lines = positions + rows * block_length
            masks = lines * self.max_length * item + self.max_length**2
        # Captured steps (engine/forward.py) share memory of their own: what the largest computes, and its
        # logits twice, for they are copied.
        token = width * item + rotary + 2 * shape.vocab_size * 4
        captured = 0 if self.exact else CAPTURED[-1] * token
        return positions * (width * item + rotary) + repeated + gathered + logits + state + masks + captured

    @property
    def activations(self) -> int:
        return self.step_bytes(self.batch_size)

    def total(self, rows: int) -> int:
        return self.weights + self.kv_bytes(rows) + self.step_bytes(rows)

    @property
    def max_batch(self) -> int | None:
        """The largest batch_size that fits (0: not even the weights); None where unknown."""
        return self._most(self.total)

    @property
    def max_of_mix(self) -> int | None:
        """How many requests of the mix fit at once, with K/V memory for so many; None where unknown."""
        return self._most(lambda rows: self.of_mix(rows).total(rows) if rows else self.weights)

    def _most(self, total: Callable[[int], int]) -> int | None:
        if self.device_total is None:
            return None
        usable = int(self.device_total * (1 - RESERVE))
        low, high = 0, 1 << 16
        while low < high:  # the total grows with the rows
            middle = (low + high + 1) // 2
            low, high = (middle, high) if total(middle) <= usable else (low, middle - 1)
        return low

    @property
    def fits(self) -> bool:
        return self.max_batch is None or self.batch_size <= self.max_batch

    def check(self) -> None:
        """Raises ValueError where batch_size rows do not fit the device."""
        most = self.max_batch
        if self.device_total is not None and not self.fits:
            raise ValueError(
                f"batch_size is {self.batch_size}; with rows of {self.max_length} positions at most {most} "
                f"fit in {self.device_total / 2**30:.1f} GiB: lower batch_size or max_length"
                + (f", or kv_positions, {self.kv_positions}" if self.kv_positions else "")
            )


def device_bytes(device: torch.device) -> int | None:
    """Memory of the device, free or not; a CPU's is the machine's. None where it cannot be told."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _active(shape: ModelShape) -> str:
    if not shape.num_idle_parameters:
        return ""
    active, every = (count / 1e9 for count in (shape.num_active_parameters, shape.num_parameters))
    return f"\n{'':21}(a token passes {active:.2f} of {every:.2f} billion parameters)"


def table(plan: MemoryPlan, sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)) -> str:
    """Text for a person: the parts, the largest batch, and what each batch size takes in all."""
    gib = 2**30
    kv = plan.kv_bytes(plan.batch_size)
    lines = [
        f"weights              {plan.weights / gib:9.3f} GiB{_active(plan.shape)}",
        f"K/V of a row         {plan.kv_per_row / gib:9.3f} GiB  ({plan.max_length} positions)",
        f"K/V memory           {kv / gib:9.3f} GiB  ({kv // plan.kv_per_position} positions, shared by rows)",
        f"largest step         {plan.activations / gib:9.3f} GiB",
    ]
    if plan.device_total is None:
        lines.append("device memory          unknown")
    else:
        lines.append(f"device memory        {plan.device_total / gib:9.3f} GiB")
        lines.append(f"largest batch_size   {plan.max_batch:9d}")
    lines += _mix_lines(plan)
    lines.append(f"{'batch_size':<12} {'beyond the weights':>20} {'in all':>12}")
    for size in sorted({*sizes, plan.batch_size}):
        total = plan.total(size)
        fits = "" if plan.max_batch is None or size <= plan.max_batch else "  does not fit"
        extra = (total - plan.weights) / gib
        lines.append(f"{size:<12} {extra:>16.3f} GiB {total / gib:>8.3f} GiB{fits}")
    return "\n".join(lines)


def _mix_lines(plan: MemoryPlan) -> list[str]:
    """How many requests of the mix fit: into the K/V memory as it is, and into the device."""
    if plan.mix is None:
        return []
    prompt, canvas = plan.mix
    each, pool = plan.mean_positions, plan.kv_bytes(plan.batch_size) // plan.kv_per_position
    size = f"{each * plan.kv_per_position / 2**30:9.3f} GiB"
    lines = [
        f"K/V of a request     {size}  ({prompt} + {canvas} tokens: {each} positions on average)",
        f"requests at once     {pool // each:9d}      in this K/V memory",
    ]
    most = plan.max_of_mix
    if most:
        lines.append(
            f"{'':21}{most:9d}      on this device: batch_size={most} engine.kv_positions={most * each}"
        )
    return lines
