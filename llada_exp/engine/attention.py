"""The exact path: packed rows attend over their own keys and nothing else, with the bits they have alone.

A pass over a whole row is one scaled-dot-product call over exactly its fresh keys. BLOCK passes read
the rows' kept K/V; those of one width share a call, with a mask of each row's keys. Where a model's positions
do not see all keys of the row (models/base.py, Visibility), each of a pass's has its own line in the mask.

What shares a call has one shape, and each row's shape is a function of the row alone: its keys
are rounded up to `key_bucket`, and rows are joined only where their buckets are equal. A batched call
computes each row as it would alone, bit by bit (tests/engine hold the host's kernels to it). Rows that begin
at even distances in the pool are joined, as any two do, so that K/V are read as views (engine/kv.py).

A device's own path, whose bits may depend on the company, is engine/forward.py.

Letters: M packed tokens, H heads, K key/value heads, D head width, T keys of a row
n rows of a group, B their width.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llada_exp.engine.batch import Segment
from llada_exp.engine.kv import KV, KVReading, Slot
from llada_exp.engine.pages import PAGE, num_pages
from llada_exp.models.attention import sdpa
from llada_exp.models.base import Attend

BUCKET = 64  # keys
QUERIES = 8
"""An exact BLOCK pass has a multiple of so many queries. Torch's CPU kernel gives each thread a part of one
buffer, at a distance that follows from the queries; where that is an odd number of floats, a product's bits
depend on the thread that computed it, so on the company (tests/engine/test_attention.py)."""


def key_bucket(keys: int) -> int:
    """Keys that an exact BLOCK pass of so many reads: masked beyond its own."""
    return -(-keys // BUCKET) * BUCKET


def row_positions(length: int, exact: bool) -> int:
    """K/V memory of a row of so many positions: an exact pass reads whole buckets."""
    return key_bucket(length) if exact else num_pages(length) * PAGE


def pool_positions(kv_positions: int | None, num_rows: int, max_length: int, exact: bool) -> int:
    """K/V memory of all rows: as asked for, or with None for so many rows that long. Raises ValueError where
    it holds no row at all."""
    least = row_positions(1, exact)
    if kv_positions is not None and kv_positions < least:
        raise ValueError(f"kv_positions is {kv_positions}; expected an integer >= {least}")
    return num_rows * row_positions(max_length, exact) if kv_positions is None else kv_positions


def packed_attention(
    segments: Sequence[Segment], cache: KV | None, device: torch.device, dtype: torch.dtype
) -> Attend:
    """Attention of each segment over its own row. Packed tokens of no segment (padding) come out
    zero.

    cache: written and read by segments with a slot. device, dtype: of the model.
    """
    cached = [s for s in segments if s.slot is not None and not s.whole]
    whole = [(s, _row_mask(s, device, dtype)) for s in segments if s.slot is None or s.whole]
    num_tokens = max(s.stop for s in segments)
    groups = [] if cache is None else list(_groups(cached, device, dtype))
    writes = [(s.slot.target(s.positions, device), s) for s in segments if s.slot is not None]

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        parts: list[tuple[slice | Tensor, Tensor]] = []
        if cache is not None:
            pools = cache[0][layer], cache[1][layer]
            for target, s in writes:  # before any is read, for a row may have several segments
                for pool, x in zip(pools, (k, v), strict=True):
                    pool[target] = x[s.start : s.stop]
            parts = [(group.rows, group.attend(*pools, q)) for group in groups]
        for s, mask in whole:
            queries, keys, values = (x[None, s.start : s.stop].transpose(1, 2) for x in (q, k, v))
            parts.append((slice(s.start, s.stop), sdpa(queries, keys, values, mask)[0].transpose(0, 1)))
        if len(parts) == 1 and parts[0][0] == slice(0, num_tokens):  # nothing to put together
            return F.pad(parts[0][1], (0, 0, 0, 0, 0, len(q) - num_tokens))
        out = torch.empty_like(q)
        out[num_tokens:] = 0
        for place, part in parts:
            out[place] = part
        return out

    return attend


def _row_mask(segment: Segment, device: torch.device, dtype: torch.dtype) -> Tensor | None:
    """Of a pass over a whole row; None: every position sees all of it."""
    return None if segment.limits is None else _mask([segment], segment.keys, device, dtype)


def _packed_rows(segments: Sequence[Segment], device: torch.device) -> slice | Tensor:
    """Their packed range, where they lie side by side there, else int64 of each token."""
    if all(a.stop == b.start for a, b in itertools.pairwise(segments)):
        return slice(segments[0].start, segments[-1].stop)
    return torch.cat([torch.arange(s.start, s.stop) for s in segments]).to(device)


@dataclass(frozen=True)
class _Group:
    """BLOCK passes of one width, in the order of their slots.

    rows: their packed range, where they lie side by side there, else int64 [n * B].
    mask: [n, 1, 1 or B + spare, T] in the model's dtype, 0 where a row (or each of its positions) sees the
          key, else -inf.
    spare: queries to add to each row's; what comes of them is dropped.
    """

    num_rows: int
    rows: slice | Tensor
    spare: int
    reading: KVReading
    mask: Tensor

    def attend(self, keys: Tensor, values: Tensor, q: Tensor) -> Tensor:
        """keys, values: of the pool, [S, K, D], this pass's among them. Returns [n * B, H, D]."""
        queries = q[self.rows].unflatten(0, (self.num_rows, -1)).transpose(1, 2)
        width = queries.shape[2]
        if self.spare:
            queries = F.pad(queries, (0, 0, 0, self.spare))
        read_keys, read_values = (self.reading(x).transpose(1, 2) for x in (keys, values))
        out = sdpa(queries, read_keys, read_values, self.mask)
        return out[:, :, :width].transpose(1, 2).flatten(0, 1)


def _groups(segments: Sequence[Segment], device: torch.device, dtype: torch.dtype) -> Iterator[_Group]:
    """Segments that read slots, joined where they may share a call."""
    alike: dict[tuple[int, int, bool], list[Segment]] = defaultdict(list)
    for segment in sorted(segments, key=lambda s: _slot(s).start):
        alike[segment.stop - segment.start, key_bucket(segment.keys), segment.limits is None].append(segment)
    for (width, bucket, _), members in alike.items():
        for group in _evenly_spaced(members):
            yield _group(group, bucket, -width % QUERIES, device, dtype)


def _evenly_spaced(members: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Members whose slots begin at even distances, as many as follow each other; and those whose pages lie
    apart. Members are in the order of their slots."""
    apart = [segment for segment in members if _slot(segment).index is not None]
    if apart:
        yield apart
    group: list[Segment] = []
    for segment in members:
        start = _slot(segment).start
        if _slot(segment).index is not None:
            continue
        if len(group) > 1 and start - _slot(group[-1]).start != _slot(group[1]).start - _slot(group[0]).start:
            yield group
            group = []
        group.append(segment)
    if group:
        yield group


def _slot(segment: Segment) -> Slot:
    assert segment.slot is not None
    return segment.slot


def _group(
    members: list[Segment], num_keys: int, spare: int, device: torch.device, dtype: torch.dtype
) -> _Group:
    rows = _packed_rows(members, device)
    reading = KVReading.of([_slot(s) for s in members], num_keys, device)
    return _Group(len(members), rows, spare, reading, _mask(members, num_keys, device, dtype, spare))


def _mask(
    members: Sequence[Segment], num_keys: int, device: torch.device, dtype: torch.dtype, spare: int = 0
) -> Tensor:
    """[n, 1, 1 or B + spare, T], 0 where the key is seen, else -inf; one line a row where all its positions
    see alike. Spare queries see what the last one sees."""
    limits = np.stack(
        [
            np.array([s.keys]) if s.limits is None else np.pad(s.limits, (0, spare), mode="edge")
            for s in members
        ]
    )
    unseen = torch.arange(num_keys) >= torch.from_numpy(limits)[:, None, :, None]
    return torch.zeros(unseen.shape, dtype=dtype).masked_fill_(unseen, -torch.inf).to(device)
