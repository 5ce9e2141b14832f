"""Exact attention over packed rows: what one query after the other gives; padding is never seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llada_exp.engine.attention import BUCKET, packed_attention
from llada_exp.engine.batch import Segment
from llada_exp.engine.kv import Slot

H, D, T = 2, 8, 24  # T: longest row; the slots hold a bucket


def slot_of(number, length):
    return Slot(number * length, length)


def apart(slot):
    """The same places, as of pages that are no run."""
    return Slot(slot.start, slot.num_positions, np.arange(slot.start, slot.start + slot.num_positions))


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@settings(max_examples=50, deadline=None)
@given(st.data(), st.integers(1, 5), st.permutations(range(5)))
def test_every_query_sees_its_keys(data, rows, slots):
    """Widths, lengths and slots as they come: also slots that are not the first ones."""
    segments, start = [], 0
    for row in range(rows):
        keys = data.draw(st.just(9) | st.integers(4, T))  # whole rows of one length are joined
        width = data.draw(st.sampled_from([2, 4]))
        first = data.draw(st.integers(0, keys - width))
        whole = data.draw(st.booleans()) and data.draw(st.booleans())
        if whole:
            first, width = 0, keys
        limits = data.draw(st.none() | st.lists(st.integers(1, keys), min_size=width, max_size=width))
        limits = None if limits is None else np.array(limits)
        slot = slot_of(slots[row], 2 * BUCKET)
        slot = apart(slot) if data.draw(st.booleans()) else slot
        segments.append(Segment(start, start + width, first, keys, whole, slot, limits))
        start += width
    heads = data.draw(st.sampled_from([1, 2]))
    q, k, v = random(start + 3, H, D), random(start + 3, heads, D) + 1, random(start + 3, heads, D) + 2
    kept = (random(1, 5 * 2 * BUCKET, heads, D), random(1, 5 * 2 * BUCKET, heads, D) + 1)
    exact = packed_attention(segments, kept, q.device, q.dtype)(0, q, k, v)
    assert not exact[start:].any(), "padding comes out zero"
    for segment in segments:
        torch.testing.assert_close(
            exact[segment.start : segment.stop], plain(segment, q, kept), rtol=1e-4, atol=1e-5
        )


def plain(segment, q, kept):
    """One query after the other, over the keys that it sees."""
    rows = []
    for i in range(segment.stop - segment.start):
        num_keys = segment.keys if segment.limits is None else segment.limits[i]
        place = segment.slot.start
        keys, values = (
            x[0, place : place + num_keys].repeat_interleave(H // x.shape[2], dim=1) for x in kept
        )
        weights = torch.einsum("hd,khd->hk", q[segment.start + i], keys) / D**0.5
        rows.append(torch.einsum("hk,khd->hd", weights.softmax(-1), values))
    return torch.stack(rows)


SIZES = [(8, 8, 64, 32), (4, 4, 32, 32), (2, 2, 16, 8), (4, 2, 12, 8), (8, 2, 128, 32)]


@pytest.mark.parametrize(
    ("heads", "kv_heads", "width", "block"),
    [*SIZES, *((4, kv, d, b) for d in (8, 16) for kv in (1, 2, 4) for b in range(1, 8)), (4, 2, 8, 15)],
)
def test_joined_rows_are_bit_equal_alone(heads, kv_heads, width, block):
    """The host's attention kernel at real sizes: a row's output may not tell how many rows shared its
    call, nor how long they were."""
    lengths = [40, 236, 250, 256, 377, 384]
    size = (1, len(lengths) * 384, kv_heads, width)
    kept = (random(*size), random(*size) + 1)
    q, k, v = (random(len(lengths) * block, n, width) + i for i, n in enumerate((heads, kv_heads, kv_heads)))
    segments = [
        Segment(i * block, (i + 1) * block, first=n - block, keys=n, whole=False, slot=slot_of(i, 384))
        for i, n in enumerate(lengths)
    ]
    together = packed_attention(segments, kept, q.device, q.dtype)(0, q, k, v)
    for segment in segments:
        alone = packed_attention([segment], kept, q.device, q.dtype)(0, q, k, v)
        rows = slice(segment.start, segment.stop)
        assert torch.equal(alone[rows], together[rows])
        gathered = [replace(s, slot=apart(s.slot)) if s is segment else s for s in segments]
        mixed = packed_attention(gathered, kept, q.device, q.dtype)(0, q, k, v)
        assert torch.equal(mixed, together)
