"""Attention over the pool by torch's scaled-dot-product attention with masks: on every device, and the
reference that the other kernels are held to.

Rows are padded to the widest and the longest: queries, keys and values are gathered by index into [n, W] and
[n, T], in at most two calls, where that wastes less than one (blocks beside whole rows, short rows beside
long ones). Where all rows are equally wide, or lie at even distances in the pool, what would be gathered is a
view.

Letters: those of engine/kernels/base.py; W tokens of the widest row of a call, T keys of the longest.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llada_exp.engine.kernels.base import FixedSizes, KernelInputs, PoolAttention
from llada_exp.engine.kv import are_even
from llada_exp.engine.pooled import PooledRows, padded
from llada_exp.models.attention import sdpa

ROWS, WIDTHS, KEYS = (1, 4, 16, 64, 256), (64, 512), (256, 1024, 4096)
"""n, W and T of captured steps: few shapes, for the price of masked products."""
WASTE = 4
"""A step of longer keys that would gather more than so many times what its rows see is not captured."""
OVERHEAD = 32
"""Of a gathered key, in products of a query with one: what decides between one call and two."""


@dataclass(frozen=True)
class _Call:
    """One call. view: (first place, distance) where the keys are read as they lie."""

    num_rows: int
    width: int
    num_keys: int
    view: tuple[int, int] | None


@dataclass(frozen=True)
class _Sizes:
    """even: all rows are equally wide, so that the packed tokens are [n, W] as they lie."""

    calls: tuple[_Call, ...]
    even: bool


class SDPA:
    name, reads_pool = "sdpa", False

    def fits(self, rows: PooledRows, fixed: FixedSizes | None) -> bool:
        if fixed is None:
            return True
        if rows.widths.max() > WIDTHS[-1] or rows.keys.max() > KEYS[-1] or len(rows.slots) > ROWS[-1]:
            return False
        call = _captured_call(rows, fixed)
        is_short = call.num_keys == KEYS[0]
        return is_short or call.num_rows * call.num_keys <= WASTE * int(rows.keys.sum())

    def inputs(self, rows: PooledRows, fixed: FixedSizes | None, num_places: int) -> KernelInputs:
        ints: dict[str, np.ndarray] = {}
        if fixed is None:
            groups = _groups(rows)
            calls = [_call(rows, group) for group in groups]
        else:
            calls = [_captured_call(rows, fixed)]
            groups = [padded(np.arange(len(rows.slots)), calls[0].num_rows)]
        num_tokens = rows.num_tokens if fixed is None else fixed.num_tokens
        widths = rows.widths
        even = fixed is None and len(groups) == 1 and bool((widths == widths[0]).all())
        queries = [_queries(rows, group, call.width) for group, call in zip(groups, calls, strict=True)]
        if not even:
            ints["queries"] = np.concatenate([index.reshape(-1) for index in queries])
            ints["tokens"] = _tokens(rows, groups, calls, num_tokens)
        gathered = [
            _places(rows, group, call.num_keys)
            for group, call in zip(groups, calls, strict=True)
            if call.view is None
        ]
        if gathered:
            ints["places"] = np.concatenate(gathered)
        for number, index in enumerate(queries):
            limits = rows.limits[index]
            alike = fixed is None and bool((limits == limits[:, :1]).all())
            ints[f"limits{number}"] = limits[:, :1] if alike else limits
        return KernelInputs(ints, _Sizes(tuple(calls), even))

    def attention(self, tensors: Mapping[str, Tensor], sizes: Hashable, dtype: torch.dtype) -> PoolAttention:
        assert isinstance(sizes, _Sizes)
        calls = sizes.calls
        masks = [_mask(tensors[f"limits{i}"], call.num_keys, dtype) for i, call in enumerate(calls)]
        num_queries = [call.num_rows * call.width for call in calls]
        num_gathered = [call.num_rows * call.num_keys for call in calls if call.view is None]

        def attend(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            packed = (q if sizes.even else q.index_select(0, tensors["queries"])).split(num_queries)
            kv = [
                iter(pool.index_select(0, tensors["places"]).split(num_gathered) if num_gathered else ())
                for pool in (keys, values)
            ]
            outs = []
            for call, queries, mask in zip(calls, packed, masks, strict=True):
                k, v = (
                    next(parts).unflatten(0, (call.num_rows, -1)) if call.view is None else _view(pool, call)
                    for parts, pool in zip(kv, (keys, values), strict=True)
                )
                queries = queries.unflatten(0, (call.num_rows, -1))
                out = sdpa(queries.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), mask)
                outs.append(out.transpose(1, 2).flatten(0, 1))
            whole = outs[0] if len(outs) == 1 else torch.cat(outs)
            return whole if sizes.even else whole.index_select(0, tensors["tokens"])

        return attend


def _groups(rows: PooledRows) -> list[np.ndarray]:
    """The rows of each call: one call, or two where that halves the work; the rows of each in their order."""
    widths, keys = rows.widths, rows.keys

    def work(group: np.ndarray) -> int:
        return int(len(group) * (widths[group].max() + OVERHEAD) * keys[group].max())

    best, least = [np.arange(len(widths))], work(np.arange(len(widths))) / 2
    for size in (widths, keys):
        for bound in np.unique(size)[:-1]:
            parts = [np.flatnonzero(size <= bound), np.flatnonzero(size > bound)]
            if (cost := sum(map(work, parts))) <= least:
                best, least = parts, cost
    return best


def _captured_call(rows: PooledRows, fixed: FixedSizes) -> _Call:
    num_rows = min(_step(len(rows.slots), ROWS), fixed.num_rows)
    return _Call(num_rows, _step(rows.widths.max(), WIDTHS), _step(rows.keys.max(), KEYS), None)


def _call(rows: PooledRows, group: np.ndarray) -> _Call:
    slots = [rows.slots[i] for i in group]
    num_keys, view = int(rows.keys[group].max()), None
    distance = slots[1].start - slots[0].start if len(slots) > 1 else 0
    if distance >= 0 and are_even(slots, num_keys):
        view = slots[0].start, distance
    return _Call(len(group), int(rows.widths[group].max()), num_keys, view)


def _queries(rows: PooledRows, group: np.ndarray, width: int) -> np.ndarray:
    """int64 [n, W]: packed tokens of each row; a narrower one's last again."""
    starts, stops = rows.starts[group], rows.starts[group + 1]
    return np.minimum(starts[:, None] + np.arange(width), stops[:, None] - 1)


def _tokens(
    rows: PooledRows, groups: Sequence[np.ndarray], calls: Sequence[_Call], num_tokens: int
) -> np.ndarray:
    """int64 [M]: where each packed token stands among the calls' queries, one after the other; padding, where
    the last one does, of which it is a copy down to the K/V that it writes."""
    tokens = np.empty(rows.num_tokens, dtype=np.int64)
    first = 0
    for group, call in zip(groups, calls, strict=True):
        for number, row in enumerate(np.unique(group)):
            start, stop = rows.starts[row], rows.starts[row + 1]
            tokens[start:stop] = first + number * call.width + np.arange(stop - start)
        first += call.num_rows * call.width
    return padded(tokens, num_tokens)


def _places(rows: PooledRows, group: np.ndarray, num_keys: int) -> np.ndarray:
    """int64 [n * T]. A row that holds fewer positions repeats its last one, for what a mask hides is still
    multiplied, and another row's chance NaN would pass it."""
    held = np.arange(num_keys)
    slots = [rows.slots[i] for i in group]
    return np.concatenate([slot.places(np.minimum(held, slot.num_positions - 1)) for slot in slots])


def _mask(limits: Tensor, num_keys: int, dtype: torch.dtype) -> Tensor:
    """limits [n, W or 1] -> [n, 1, W or 1, T]: 0 where a token sees the key, else -inf."""
    unseen = torch.arange(num_keys, device=limits.device) >= limits[:, None, :, None]
    return torch.zeros(unseen.shape, dtype=dtype, device=limits.device).masked_fill_(unseen, -math.inf)


def _view(pool: Tensor, call: _Call) -> Tensor:
    """pool [S, K, D] -> [n, T, K, D]."""
    assert call.view is not None
    first, distance = call.view
    step = pool.stride(0)
    return pool.as_strided(
        (call.num_rows, call.num_keys, *pool.shape[1:]),
        (distance * step, step, *pool.stride()[1:]),
        pool.storage_offset() + first * step,
    )


def _step(size: int, steps: Sequence[int]) -> int:
    return next(step for step in steps if size <= step)
