"""Commit rules against the arithmetic of their papers."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from llada_exp.rules import RULES, Candidates, RowState
from llada_exp.rules.fixed import quota
from llada_exp.types import DecodingParams


def candidates(confidences, masked=None):
    confidence = torch.tensor(confidences)
    masked = torch.ones_like(confidence).bool() if masked is None else torch.tensor(masked)
    return Candidates(torch.zeros_like(confidence).long(), confidence, 1 / confidence - 1, masked)


def commit(rule, confidences, masked=None, block_masks=4, block_step=0, **params):
    own = DecodingParams(rule=rule, max_tokens=4, block_length=4, **params)
    states = [RowState(own, block_masks, block_step)] * len(confidences)
    return RULES[rule](candidates(confidences, masked), states).tolist()


def test_fixed_commits_the_quota_of_the_most_confident():
    assert commit("fixed", [[0.1, 0.9, 0.5, 0.2]], steps=2) == [[False, True, True, False]]


def test_threshold_is_inclusive_and_never_empty():
    assert commit("threshold", [[0.5, 0.75, 0.2, 0.1]], threshold=0.75) == [[False, True, False, False]]
    assert commit("threshold", [[0.5, 0.7, 0.2, 0.1]], threshold=0.9) == [[False, True, False, False]]
    assert commit("threshold", [[0.5, 0.7, 0.2, 0.1]], threshold=0.0) == [[True] * 4]


def test_each_row_keeps_its_own_parameters():
    rows = [
        RowState(DecodingParams(rule="threshold", threshold=t, max_tokens=2, block_length=2), 2, 0)
        for t in (0.3, 0.99)
    ]
    both = RULES["threshold"](candidates([[0.5, 0.6], [0.5, 0.6]]), rows)
    assert both.tolist() == [[True, True], [False, True]]


@given(st.integers(1, 64), st.integers(1, 80), st.integers(1, 4))
def test_quotas_of_a_block_add_up_to_it(masks, steps, blocks):
    own = DecodingParams(max_tokens=masks * blocks, block_length=masks, steps=steps)
    left, step, per_block = masks, 0, -(-steps // blocks)
    while left > 0:
        left -= quota(RowState(own, masks, step))
        step += 1
    assert left == 0
    assert step == min(masks, per_block)


@given(st.data(), st.sampled_from(sorted(RULES)), st.integers(1, 4), st.integers(1, 8))
def test_every_rule_commits_masked_positions_only_and_at_least_one_a_row(data, rule, rows, width):
    confidence = data.draw(
        st.lists(st.lists(st.floats(2**-20, 1.0, width=32), min_size=width, max_size=width),
                 min_size=rows, max_size=rows)
    )  # fmt: skip
    masked = data.draw(
        st.lists(st.lists(st.booleans(), min_size=width, max_size=width).filter(any),
                 min_size=rows, max_size=rows)
    )  # fmt: skip
    own = DecodingParams(rule=rule, max_tokens=width, block_length=width)
    chosen = RULES[rule](candidates(confidence, masked), [RowState(own, width, 0)] * rows)
    allowed = torch.tensor(masked)
    assert not (chosen & ~allowed).any()
    assert (chosen & allowed).any(dim=1).all()
