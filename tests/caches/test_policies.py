"""Cache policies are integers: which positions a pass forwards, keeps and sees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llada_exp.caches import CACHES, Cursor, Pass
from llada_exp.types import REFRESH, DecodingParams

P, B, K = 10, 8, 3  # prompt, block, blocks: the row is 34 long


def cursor(block, step, sees_suffix=True, **params):
    start = P + B * block
    return Cursor(
        prompt_length=P,
        length=P + B * K,
        block=block,
        last_block_start=max(P, start - B),
        block_start=start,
        block_end=start + B,
        block_step=step,
        sees_suffix=sees_suffix,
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
    assert CACHES["prefix"].next_pass(cursor(0, 0, sees_suffix=False)) == Pass(0, 18, keys=18, keep=True)
    assert CACHES["prefix"].next_pass(cursor(1, 0, sees_suffix=False)) == Pass(10, 26, keys=26, keep=True)
    assert CACHES["prefix"].next_pass(cursor(1, 1, sees_suffix=False)) == Pass(18, 26, keys=26, keep=True)
    assert CACHES["none"].next_pass(cursor(1, 1, sees_suffix=False)) == Pass(0, 26, keys=26, keep=False)


@given(
    st.sampled_from(sorted(CACHES)),
    st.sampled_from(REFRESH),
    st.integers(0, 40),
    st.integers(1, 4),
    st.none() | st.integers(0, 40),
    st.booleans(),
    st.booleans(),
)
def test_every_key_that_a_pass_sees_was_computed_and_its_block_is_fresh(
    cache, refresh, width, every, window, grow, sees_suffix
):
    """Over a whole row: no pass may read a slot where nothing was ever written."""
    params = {"refresh": refresh, "refresh_window": width, "refresh_interval": every}
    params |= {"canvas": "grow"} if grow else {"suffix_window": window}
    kept: set[int] = set()
    for block in range(K):
        for step in range(3):
            own = CACHES[cache].next_pass(cursor(block, step, sees_suffix, cache=cache, **params))
            fresh = set(range(own.start, own.stop))
            at = P + B * block
            assert set(range(at, at + B)) <= fresh
            assert set(range(own.keys)) <= kept | fresh
            if own.keep:
                kept |= fresh
            else:
                assert own.whole
