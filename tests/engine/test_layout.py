"""A row's blocks are arithmetic: every answer position is in exactly one, and sees what its model lets it."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llada_exp.engine.layout import Layout
from llada_exp.models.base import Visibility

KINDS = ["full", "block_causal", "causal_context"]
layouts = st.builds(
    Layout,
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 40),
    st.sampled_from([Visibility(kind) for kind in KINDS]),
    st.integers(0, 1),
)


@given(layouts)
def test_blocks_tile_the_row_and_every_answer_position_is_open_in_one(layout):
    edges = [layout.bounds(block) for block in range(layout.num_blocks)]
    assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))
    assert edges[-1][1] == layout.length
    assert edges[0][0] <= layout.prompt_length
    opens = [layout.num_open(block) for block in range(layout.num_blocks)]
    assert min(opens) >= 1
    assert sum(opens) == layout.length - layout.prompt_length >= layout.max_tokens


@given(layouts)
def test_the_last_block_is_short_on_a_prompts_grid_and_whole_on_an_anchored_one(layout):
    """max_tokens = context - prompt has to fit; a block-causal block is denoised whole."""
    start, stop = layout.bounds(layout.num_blocks - 1)
    if layout.visibility.anchored:
        assert start % layout.block_length == 0
        assert stop - start == layout.block_length
    else:
        assert layout.length == layout.prompt_length + layout.max_tokens


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("full", None),
        ("block_causal", [4, 4, 4, 4, 8, 8, 8, 8]),
        ("causal_context", [1, 2, 3, 4, 5, 9, 9, 9]),
        ("block_context", [5, 5, 5, 5, 5, 9, 9, 9]),
    ],
)
def test_what_positions_see_with_a_prompt_of_five_and_blocks_of_four(kind, expected):
    layout = Layout(5, 7, 4, Visibility(kind), 0)
    limits = layout.limits(0, 8, 5)
    assert expected == (None if limits is None else limits.tolist())


@given(layouts, st.data())
def test_the_current_block_sees_all_of_itself_and_no_block_that_is_finished_sees_a_later_one(layout, data):
    block = data.draw(st.integers(0, layout.num_blocks - 1))
    start, stop = layout.bounds(block)
    limits = layout.limits(0, stop, start)
    if limits is None:
        assert layout.visibility.sees_suffix
        return
    assert (limits[start:stop] >= stop).all()
    assert (np.diff(limits) >= 0).all()
    if block:
        assert (limits[:start] <= start).all()
