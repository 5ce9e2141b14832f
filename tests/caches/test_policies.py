"""Cache policies are integers: which positions a pass forwards, keeps and sees."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llada_exp.caches import CACHES, Cursor, Pass
from llada_exp.types import REFRESH, DecodingParams

P, B, K = 10, 8, 3  # prompt, block, blocks: the row is 34 long


def cursor(block, step, sees_suffix=True, context=0, owns_pass=False, **params):
    """The context ends where the block begins if it owns a pass, else where the block before it does."""
    start = P + B * block
    return Cursor(
        prompt_length=P,
        length=P + B * K,
        block=block,
        block_start=start,
        block_end=start + B,
        block_step=step,
        sees_suffix=sees_suffix,
        context=context,
        context_end=0 if sees_suffix else start if owns_pass else max(P, start - B),
        owns_pass=owns_pass,
        chunk=B,
        params=DecodingParams(max_tokens=B * K, block_length=B, **params),
    )


def test_none_forwards_the_row_every_time_and_keeps_nothing():
    for step in (0, 1):
        assert CACHES["none"].next_pass(cursor(1, step)) == Pass(0, 34, keys=34, keep=False)


def test_prefix_keeps_what_stands_before_the_block():
    assert CACHES["prefix"].next_pass(cursor(1, 0)) == Pass(0, 34, keys=34, keep=True)
    assert CACHES["prefix"].next_pass(cursor(1, 1)) == Pass(18, 34, keys=34, keep=True)


def test_dual_forwards_the_block_alone():
    assert CACHES["dual"].next_pass(cursor(1, 0)) == Pass(0, 34, keys=34, keep=True)
    assert CACHES["dual"].next_pass(cursor(1, 1)) == Pass(18, 26, keys=34, keep=True)


@pytest.mark.parametrize(
    ("block", "params", "expected"),
    [
        (0, {"refresh": "window", "refresh_window": 3}, (0, 34)),  # the first block takes the row whole
        (1, {"refresh": "window", "refresh_window": 3}, (15, 29)),
        (2, {"refresh": "window", "refresh_window": 3}, (23, 34)),
        (1, {"refresh": "prompt_every", "refresh_interval": 2}, (10, 34)),
        (2, {"refresh": "prompt_every", "refresh_interval": 2}, (0, 34)),
        (0, {"suffix_window": 4}, (0, 22)),
        (1, {"suffix_window": 4, "refresh": "window", "refresh_window": 3}, (15, 30)),
    ],
)
def test_refresh_policies(block, params, expected):
    own = CACHES["dual"].next_pass(cursor(block, 0, cache="dual", **params))
    assert (own.start, own.stop) == expected


@pytest.mark.parametrize("cache", CACHES)
def test_a_growing_canvas_has_no_position_beyond_the_block(cache):
    """iLLaDA's decoder: max_tokens costs nothing."""
    for step in (0, 1):
        row_pass = CACHES[cache].next_pass(cursor(1, step, cache=cache, canvas="grow"))
        assert (row_pass.stop, row_pass.keys) == (26, 26)


def test_where_blocks_do_not_see_beyond_themselves_a_finished_one_is_forwarded_once_more():
    """Its K/V are final only in its last state; nothing before it changes."""

    def prefix(block, step, context, **facts):
        return CACHES["prefix"].next_pass(cursor(block, step, False, context, **facts))

    assert prefix(0, 0, 0) == Pass(0, 8, keys=8, keep=True, stores=True), (
        "the prompt, as much as a pass holds"
    )
    assert prefix(0, 0, 8) == Pass(8, 10, keys=10, keep=True, stores=True)
    assert prefix(0, 0, 10) == Pass(10, 18, keys=18, keep=True)
    assert prefix(1, 0, 10) == Pass(10, 26, keys=26, keep=True), "together with the next block"
    assert prefix(1, 1, 18) == Pass(18, 26, keys=26, keep=True)
    assert prefix(1, 0, 10, owns_pass=True) == Pass(10, 18, keys=18, keep=True, stores=True)
    none = CACHES["none"].next_pass
    assert none(cursor(1, 1, False, 18)) == Pass(0, 26, keys=26, keep=False)
    assert none(cursor(1, 0, False, 10)) == Pass(0, 26, keys=26, keep=False)
    assert none(cursor(1, 0, False, 10, owns_pass=True)) == Pass(0, 18, keys=18, keep=False, stores=True)


@settings(deadline=None)  # a first call pays for imports, on a busy machine more than 200 ms
@given(
    st.sampled_from(sorted(CACHES)),
    st.sampled_from(REFRESH),
    st.integers(0, 40),
    st.integers(1, 4),
    st.none() | st.integers(0, 40),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_every_key_that_a_pass_sees_was_computed_and_its_block_is_fresh(
    cache, refresh, width, every, window, grow, sees_suffix, owns_pass
):
    """Over a whole row: no pass may read a slot where nothing was ever written."""
    params = {"refresh": refresh, "refresh_window": width, "refresh_interval": every}
    params |= {"canvas": "grow"} if grow else {"suffix_window": window}
    kept: set[int] = set()
    context = 0
    for block in range(K):
        step = 0
        while step < 3:
            at = cursor(
                block, step, sees_suffix, context, owns_pass and not sees_suffix, cache=cache, **params
            )
            own = CACHES[cache].next_pass(at)
            fresh = set(range(own.start, own.stop))
            assert own.stores or set(range(at.block_start, at.block_end)) <= fresh
            assert not own.stores or fresh.isdisjoint(range(at.block_start, at.block_end))
            assert set(range(own.keys)) <= kept | fresh
            context, step = (own.stop, step) if own.stores else (max(context, at.block_start), step + 1)
            if own.keep:
                kept |= fresh
            else:
                assert own.whole
