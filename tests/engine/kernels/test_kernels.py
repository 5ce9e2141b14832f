"""Attention over the pool: every kernel gives what one query after the other gives, in any sizes."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llada_exp.engine.batch import Segment
from llada_exp.engine.kernels import FixedSizes, kernel_of, varlen
from llada_exp.engine.kernels.flex import Flex
from llada_exp.engine.kernels.sdpa import SDPA
from llada_exp.engine.kernels.varlen import VarLen
from llada_exp.engine.kv import Slot
from llada_exp.engine.pages import PAGE
from llada_exp.engine.pooled import PooledRows
from tests.toys import toy_model

H, D, PAGES = 4, 8, 40


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@st.composite
def steps(draw, with_limits=True, with_pieces=True):
    """Rows of any widths and lengths, whose pages lie side by side or apart."""
    free = list(range(PAGES))
    segments, start = [], 0
    for _ in range(draw(st.integers(1, 5))):
        count = draw(st.integers(1, 5))
        first = draw(st.integers(0, len(free) - count))
        pages = free[first : first + count]
        if with_pieces and draw(st.booleans()):
            pages = draw(st.permutations(pages))
        if not with_pieces and any(b != a + 1 for a, b in itertools.pairwise(pages)):
            continue
        free = [page for page in free if page not in pages]
        slot = Slot.of(pages)
        keys = draw(st.integers(1, slot.num_positions))
        width = draw(st.integers(1, min(keys, 24)) | st.just(min(keys, 4)))
        position = draw(st.integers(0, keys - width))
        limits = None
        if with_limits and draw(st.booleans()):
            limits = np.array(draw(st.lists(st.integers(1, keys), min_size=width, max_size=width)))
        segments.append(Segment(start, start + width, position, keys, False, slot, limits))
        start += width
    return segments or [Segment(0, 1, 0, 1, False, Slot.of([0]))]


def plain(segments, q, keys, values):
    """One query after the other, over the keys that it sees."""
    out = []
    for segment in segments:
        for i in range(segment.stop - segment.start):
            num_keys = segment.keys if segment.limits is None else segment.limits[i]
            places = segment.slot.places(np.arange(num_keys))
            k, v = (x[places].repeat_interleave(H // x.shape[1], dim=1) for x in (keys, values))
            weights = torch.einsum("hd,khd->hk", q[segment.start + i], k) / D**0.5
            out.append(torch.einsum("hk,khd->hd", weights.softmax(-1), v))
    return torch.stack(out)


def attended(kernel, segments, fixed, heads=2):
    """What the kernel makes of random keys and values, and what one query after the other gives."""
    rows = PooledRows.of(segments)
    assert kernel.fits(rows, fixed)
    num_tokens = rows.num_tokens if fixed is None else fixed.num_tokens
    inputs = kernel.inputs(rows, fixed, PAGES * PAGE)
    tensors = {name: torch.from_numpy(array) for name, array in inputs.ints.items()}
    assert all(x.dtype is torch.int64 for x in tensors.values())
    q, keys, values = random(num_tokens, H, D), random(PAGES * PAGE, heads, D) + 1, random(640, heads, D)
    q[rows.num_tokens :] = q[rows.num_tokens - 1]
    out = kernel.attention(tensors, inputs.sizes, torch.float32)(q, keys, values)
    assert out.shape == q.shape
    last = out[rows.num_tokens - 1 :]  # a copy that attends otherwise would write other K/V over its own
    torch.testing.assert_close(last, last[:1].expand_as(last))
    return out[: rows.num_tokens], plain(segments, q, keys, values), inputs


FIXED = st.none() | st.just(FixedSizes(128, 8))


@settings(max_examples=40, deadline=None)
@given(steps(), FIXED, st.sampled_from([1, 2, 4]))
def test_sdpa(segments, fixed, heads):
    """Views of even rows, gathered ones, one call or two, captured sizes."""
    out, expected, _ = attended(SDPA(), segments, fixed, heads)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=8, deadline=None)
@given(steps(), FIXED)
def test_flex(segments, fixed):
    out, expected, _ = attended(Flex(), segments, fixed)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(steps(with_pieces=False), st.none() | st.just(FixedSizes(128, 128)))
def test_varlen_plan(segments, fixed):
    """By its documented contract; torch's own runs on CUDA alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(varlen, "_operator", lambda: (contract, {}))
        out, expected, inputs = attended(VarLen(), segments, fixed)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    assert inputs.ints["starts"][-1] == (fixed.num_tokens if fixed else segments[-1].stop)


def contract(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, *, seqused_k, enable_gqa=False):
    """torch.nn.attention.varlen.varlen_attn over pieces, one after the other."""
    assert {x.dtype for x in (cu_seq_q, cu_seq_k, seqused_k)} == {torch.int32}
    assert len(cu_seq_q) == len(cu_seq_k) == len(seqused_k) + 1
    assert enable_gqa == (k.shape[1] != q.shape[1])
    out = torch.full_like(q, torch.nan)
    for (start, stop), first, used in zip(
        itertools.pairwise(cu_seq_q.tolist()), cu_seq_k.tolist(), seqused_k.tolist(), strict=False
    ):
        assert 0 <= stop - start <= max_q
        assert 1 <= used <= max_k
        if stop > start:
            keys, values = (x[first : first + used].repeat_interleave(H // x.shape[1], 1) for x in (k, v))
            scores = torch.einsum("qhd,khd->hqk", q[start:stop], keys) / D**0.5
            out[start:stop] = torch.einsum("hqk,khd->qhd", scores.softmax(-1), values)
    return out


def test_varlen_leaves_pages_that_lie_apart_and_too_many_pieces_to_another():
    apart = PooledRows.of([Segment(0, 2, 0, 20, False, Slot.of([3, 1]))])
    assert not VarLen().fits(apart, None)
    causal = PooledRows.of([Segment(0, 4, 0, 4, False, Slot.of([3]), np.arange(1, 5))])
    assert VarLen().fits(causal, None)
    assert not VarLen().fits(causal, FixedSizes(32, 3))


def test_blocks_beside_a_whole_row_are_attended_apart():
    """Prevents 16 rows padded to the widest: 16 times 400 x 400 products for one row that needs them."""
    blocks = [Segment(4 * i, 4 * i + 4, 0, 60, False, Slot.of(range(4 * i, 4 * i + 4))) for i in range(8)]
    whole = Segment(32, 82, 0, 50, True, Slot.of(range(32, 36)))
    sizes = SDPA().inputs(PooledRows.of([*blocks, whole]), None, PAGES * PAGE).sizes
    assert {(call.num_rows, call.width) for call in sizes.calls} == {(8, 4), (1, 50)}


def test_a_kernel_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="attention is 'fast'; expected one of sdpa, flex, varlen"):
        kernel_of("fast", toy_model())
    with pytest.raises(ValueError, match="needs CUDA of compute capability"):
        kernel_of("varlen", toy_model())
    assert kernel_of(None, toy_model()).name == "sdpa"
