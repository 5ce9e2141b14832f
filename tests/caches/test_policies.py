"""Cache policies are integers: which positions a pass forwards, keeps and sees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llada_exp.caches import CACHES, Cursor, Pass
from llada_exp.types import REFRESH, DecodingParams

P, B, K = 10, 8, 3  # prompt, block, blocks: the row is 34 long


def cursor(block, step, **params):
    start = P + B * block
    own = DecodingParams(max_tokens=B * K, block_length=B, **params)
    return Cursor(P, P + B * K, block, start, start + B, step, own)


def test_none_forwards_the_row_every_time_and_keeps_nothing():
    for step in (0, 1):
        assert CACHES["none"](cursor(1, step)) == Pass(0, 34, keys=34, keep=False)


def test_prefix_keeps_what_stands_before_the_block():
    assert CACHES["prefix"](cursor(1, 0)) == Pass(0, 34, keys=34, keep=True)
    assert CACHES["prefix"](cursor(1, 1)) == Pass(18, 34, keys=34, keep=True)


def test_dual_forwards_the_block_alone():
    assert CACHES["dual"](cursor(1, 0)) == Pass(0, 34, keys=34, keep=True)
    assert CACHES["dual"](cursor(1, 1)) == Pass(18, 26, keys=34, keep=True)


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
    own = CACHES["dual"](cursor(block, 0, cache="dual", **params))
    assert (own.start, own.stop) == expected


@given(
    st.sampled_from(sorted(CACHES)),
    st.sampled_from(REFRESH),
    st.integers(0, 40),
    st.integers(1, 4),
    st.none() | st.integers(0, 40),
)
def test_every_key_that_a_pass_sees_was_computed_and_its_block_is_fresh(cache, refresh, width, every, window):
    """Over a whole row: no pass may read a slot where nothing was ever written."""
    params = {"refresh": refresh, "refresh_window": width, "refresh_interval": every, "suffix_window": window}
    kept: set[int] = set()
    for block in range(K):
        for step in range(3):
            own = CACHES[cache](cursor(block, step, cache=cache, **params))
            fresh = set(range(own.start, own.stop))
            at = P + B * block
            assert set(range(at, at + B)) <= fresh
            assert set(range(own.keys)) <= kept | fresh
            if own.keep:
                kept |= fresh
            else:
                assert own.whole
