"""Packed rows attend over their own keys and nothing else.

Exact: one scaled-dot-product call per row, over exactly its keys, so there is no mask to get wrong;
with token rows padded to multiples of 16 (engine/batch.py) a row's logits are bit-equal to running
alone. Grouped: BLOCK passes of one width share a call over the slots' K/V, with a mask of each row's
keys; many times fewer launches on a GPU, and bits that may depend on the company.

Letters: M packed tokens, H heads, D head width, T keys of a row, n rows of a group, B their width.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from llada_exp.engine.batch import Segment
from llada_exp.models.base import Attend

KV = tuple[Tensor, Tensor]
"""K and V of the slots, each [L, S, T, H, D]."""


def packed_attention(segments: Sequence[Segment], kept: KV | None = None, exact: bool = True) -> Attend:
    """Attention of each segment over its own row. Packed tokens of no segment (padding) come out
    zero.

    kept: written and read by segments with a slot. exact: see above.
    """
    groups, single = ([], list(segments)) if exact or kept is None else _groups(segments, kept[0].device)

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, narrow: bool) -> Tensor:
        out = torch.zeros_like(q)
        assert not (narrow and groups), "grouped rows have all their queries"
        for group in groups:
            assert kept is not None
            out[group.rows] = group.attend(kept[0][layer], kept[1][layer], q, k, v)
        for segment in single:
            rows = slice(segment.start, segment.stop)
            own = slice(segment.wanted_start, segment.wanted_stop) if narrow else rows
            keys, values = k[rows], v[rows]
            if segment.slot is not None:
                assert kept is not None
                keys, values = _through_slot(segment, kept[0][layer], kept[1][layer], keys, values)
            one = F.scaled_dot_product_attention(_heads(q[own]), _heads(keys), _heads(values))
            out[own] = one.squeeze(0).transpose(0, 1)
        return out

    return attend


def _through_slot(
    segment: Segment, kept_k: Tensor, kept_v: Tensor, k: Tensor, v: Tensor
) -> tuple[Tensor, Tensor]:
    """Keep the segment's fresh K/V; return all the K/V that it sees, [keys, H, D]."""
    own = slice(segment.first, segment.first + len(k))
    kept_k[segment.slot, own] = k
    kept_v[segment.slot, own] = v
    if segment.whole:
        return k, v
    return kept_k[segment.slot, : segment.keys], kept_v[segment.slot, : segment.keys]


def _heads(x: Tensor) -> Tensor:
    """[T, H, D] -> [1, H, T, D], a view."""
    return x.transpose(0, 1).unsqueeze(0)


@dataclass(frozen=True)
class _Group:
    """BLOCK passes of one width.

    rows, places: int64 [n, B], their packed indices and row positions. slots: int64 [n], or None
    where they are the first n. seen: bool [n, 1, 1, T], which keys each row sees.
    """

    rows: Tensor
    places: Tensor
    slots: Tensor
    first_slots: bool
    seen: Tensor

    def attend(self, kept_k: Tensor, kept_v: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """[n, B, H, D]. The first slots are read as a view, without a copy."""
        count, longest = len(self.rows), self.seen.shape[-1]
        at = (self.slots.unsqueeze(1), self.places)
        kept_k[at], kept_v[at] = k[self.rows], v[self.rows]
        which = slice(count) if self.first_slots else self.slots
        keys, values = kept_k[which, :longest].transpose(1, 2), kept_v[which, :longest].transpose(1, 2)
        out = F.scaled_dot_product_attention(q[self.rows].transpose(1, 2), keys, values, attn_mask=self.seen)
        return out.transpose(1, 2)


def _groups(segments: Sequence[Segment], device: torch.device) -> tuple[list[_Group], list[Segment]]:
    """Segments that read slots, by width, in the order of their slots; and all the others."""
    by_width: dict[int, list[Segment]] = defaultdict(list)
    single = []
    for segment in segments:
        if segment.slot is None or segment.whole:
            single.append(segment)
        else:
            by_width[segment.stop - segment.start].append(segment)
    groups = []
    for width, members in by_width.items():
        members.sort(key=lambda s: s.slot or 0)
        slots = [s.slot for s in members]
        offsets = torch.arange(width)
        keys = torch.tensor([s.keys for s in members])
        groups.append(
            _Group(
                rows=(torch.tensor([s.start for s in members])[:, None] + offsets).to(device),
                places=(torch.tensor([s.first for s in members])[:, None] + offsets).to(device),
                slots=torch.tensor(slots).to(device),
                first_slots=slots == list(range(len(slots))),
                seen=(torch.arange(int(keys.max())) < keys[:, None])[:, None, None].to(device),
            )
        )
    return groups, single
