"""Packed rows attend over their own keys and nothing else.

A pass over a whole row is one scaled-dot-product call over exactly its fresh keys. BLOCK passes read
the slots' K/V; those of one width share a call, with a mask of each row's keys. Where a model's positions
do not see all keys of the row (models/base.py, Visibility), each of a pass's has its own line in the mask.

exact: what shares a call has one shape, and each row's shape is a function of the row alone: its keys
are rounded up to `key_bucket`, and rows are joined only where their buckets are equal. A batched call
computes each row as it would alone, bit by bit (tests/engine hold the host's kernels to it). Only
slots that lie side by side are joined, so that K/V are read as views (engine/slots.py sorts them).
Not exact, on a GPU: one call for all rows of a width, up to the longest of them: fewest launches, and
bits that may depend on the company.

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
from torch import Tensor

from llada_exp.engine.batch import Segment
from llada_exp.models.attention import sdpa
from llada_exp.models.base import Attend

KV = tuple[Tensor, Tensor]
"""K and V of the slots, each [L, S, T, K, D]."""

BUCKET = 64  # keys
MIN_JOINED = 4
"""Queries of a BLOCK pass from which on it shares an exact call: with 1 and 3, torch's CPU kernel gives other
bits joined than alone (tests/engine/test_attention.py)."""


def key_bucket(keys: int) -> int:
    """Keys that an exact BLOCK pass of so many reads: masked beyond its own."""
    return -(-keys // BUCKET) * BUCKET


def packed_attention(
    segments: Sequence[Segment], cache: KV | None, exact: bool, device: torch.device, dtype: torch.dtype
) -> Attend:
    """Attention of each segment over its own row. Packed tokens of no segment (padding) come out
    zero.

    cache: written and read by segments with a slot. device, dtype: of the model.
    """
    cached = [s for s in segments if s.slot is not None and not s.whole]
    whole = [s for s in segments if s.slot is None or s.whole]
    num_tokens = max(s.stop for s in segments)
    groups = [] if cache is None else list(_groups(cached, exact, device, dtype))
    masks = [None if s.limits is None else _mask([s], s.keys, device, dtype) for s in whole]

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(q)
        out[num_tokens:] = 0
        for (
            s
        ) in cached:  # before any is read: a row may have several; a few slices cost less than one scatter
            assert cache is not None
            cache[0][layer, s.slot, s.positions] = k[s.start : s.stop]
            cache[1][layer, s.slot, s.positions] = v[s.start : s.stop]
        for group in groups:
            assert cache is not None
            out[group.rows] = group.attend(cache[0][layer], cache[1][layer], q)
        for segment, mask in zip(whole, masks, strict=True):
            rows = slice(segment.start, segment.stop)
            if segment.slot is not None:
                assert cache is not None
                cache[0][layer, segment.slot, segment.positions] = k[rows]
                cache[1][layer, segment.slot, segment.positions] = v[rows]
            one = sdpa(_heads(q[rows]), _heads(k[rows]), _heads(v[rows]), mask)
            out[rows] = one.squeeze(0).transpose(0, 1)
        return out

    return attend


def _heads(x: Tensor) -> Tensor:
    """[T, H, D] -> [1, H, T, D], a view."""
    return x.transpose(0, 1).unsqueeze(0)


@dataclass(frozen=True)
class _Group:
    """BLOCK passes of one width, in the order of their slots.

    rows: their packed range, where they lie side by side there, else int64 [n * B].
    slots: theirs, where they lie side by side, as a slice, else int64 [n].
    mask: [n, 1, 1 or B, T] in the model's dtype, 0 where a row (or each of its positions) sees the key, else
          -inf.
    """

    members: list[Segment]
    rows: slice | Tensor
    slots: slice | Tensor
    mask: Tensor

    def attend(self, cache_k: Tensor, cache_v: Tensor, q: Tensor) -> Tensor:
        """[n * B, H, D]; the rows' fresh K/V are kept already."""
        keys, values = (x[self.slots, : self.mask.shape[-1]].transpose(1, 2) for x in (cache_k, cache_v))
        queries = q[self.rows].unflatten(0, (len(self.members), -1)).transpose(1, 2)
        out = sdpa(queries, keys, values, self.mask)
        return out.transpose(1, 2).flatten(0, 1)


def _groups(
    segments: Sequence[Segment], exact: bool, device: torch.device, dtype: torch.dtype
) -> Iterator[_Group]:
    """Segments that read slots, joined where they may share a call."""
    alike: dict[tuple[int, int, bool], list[Segment]] = defaultdict(list)
    for segment in sorted(segments, key=_slot):
        bucket = key_bucket(segment.keys) if exact else 0
        alike[segment.stop - segment.start, bucket, segment.limits is None].append(segment)
    for (_, bucket, _), members in alike.items():
        for joined in _side_by_side(members) if exact else [members]:
            yield _group(joined, bucket or max(s.keys for s in joined), device, dtype)


def _side_by_side(members: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Runs of neighbouring slots that may share a call; members are in the order of their slots."""
    run = [members[0]]
    may_join = run[0].stop - run[0].start >= MIN_JOINED
    for segment in members[1:]:
        if not may_join or _slot(segment) != _slot(run[-1]) + 1:
            yield run
            run = []
        run.append(segment)
    yield run


def _slot(segment: Segment) -> int:
    assert segment.slot is not None
    return segment.slot


def _group(members: list[Segment], num_keys: int, device: torch.device, dtype: torch.dtype) -> _Group:
    slots = [_slot(s) for s in members]
    if all(a.stop == b.start for a, b in itertools.pairwise(members)):
        rows: slice | Tensor = slice(members[0].start, members[-1].stop)
    else:
        rows = torch.cat([torch.arange(s.start, s.stop) for s in members]).to(device)
    together = slots[-1] - slots[0] == len(slots) - 1
    return _Group(
        members=members,
        rows=rows,
        slots=slice(slots[0], slots[-1] + 1) if together else torch.tensor(slots).to(device),
        mask=_mask(members, num_keys, device, dtype),
    )


def _mask(members: Sequence[Segment], num_keys: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[n, 1, 1 or B, T], 0 where the key is seen, else -inf; one line a row where all its positions see
    alike."""
    limits = np.stack([np.array([s.keys]) if s.limits is None else s.limits for s in members])
    unseen = torch.arange(num_keys) >= torch.from_numpy(limits)[:, None, :, None]
    return torch.zeros(unseen.shape, dtype=dtype).masked_fill_(unseen, -torch.inf).to(device)
