"""Commit rules against the arithmetic of their papers."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from llada_exp.rules import RULES, Candidates, RowState
from llada_exp.rules.credit import earn
from llada_exp.rules.fixed import quota
from llada_exp.types import DecodingParams


def candidates(confidences, masked=None):
    confidence = torch.tensor(confidences)
    masked = torch.ones_like(confidence).bool() if masked is None else torch.tensor(masked)
    return Candidates(torch.zeros_like(confidence).long(), confidence, 1 / confidence - 1, masked)


def commit(rule, confidences, masked=None, block_masks=4, block_step=0, **params):
    own = DecodingParams(rule=rule, max_tokens=4, block_length=4, **params)
    states = [RowState(own, block_masks, block_step, 1)] * len(confidences)
    return RULES[rule](candidates(confidences, masked), states).tolist()


def test_fixed_commits_the_quota_of_the_most_confident():
    assert commit("fixed", [[0.1, 0.9, 0.5, 0.2]], steps=2) == [[False, True, True, False]]
    assert commit("fixed", [[0.1, 0.9, 0.5, 0.2]], steps_per_block=2) == [[False, True, True, False]]


def test_threshold_is_inclusive_and_never_empty():
    assert commit("threshold", [[0.5, 0.75, 0.2, 0.1]], threshold=0.75) == [[False, True, False, False]]
    assert commit("threshold", [[0.5, 0.7, 0.2, 0.1]], threshold=0.9) == [[False, True, False, False]]
    assert commit("threshold", [[0.5, 0.7, 0.2, 0.1]], threshold=0.0) == [[True] * 4]


def test_each_row_keeps_its_own_parameters():
    rows = [
        RowState(DecodingParams(rule="threshold", threshold=t, max_tokens=2, block_length=2), 2, 0, 1)
        for t in (0.3, 0.99)
    ]
    both = RULES["threshold"](candidates([[0.5, 0.6], [0.5, 0.6]]), rows)
    assert both.tolist() == [[True, True], [False, True]]


@given(st.integers(1, 64), st.integers(1, 80), st.integers(1, 4))
def test_quotas_of_a_block_add_up_to_it(masks, steps, blocks):
    own = DecodingParams(max_tokens=masks * blocks, block_length=masks, steps=steps)
    left, step, per_block = masks, 0, -(-steps // blocks)
    while left > 0:
        left -= quota(RowState(own, masks, step, blocks))
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
    chosen = RULES[rule](candidates(confidence, masked), [RowState(own, width, 0, 1)] * rows)
    allowed = torch.tensor(masked)
    assert not (chosen & ~allowed).any()
    assert (chosen & allowed).any(dim=1).all()


def test_factor_walks_down_until_the_first_failure():
    # 1 - f/(n+1) for f = 1: 0.5, 0.667, 0.75, 0.8
    assert commit("factor", [[0.9, 0.7, 0.74, 0.99]]) == [[True, False, False, True]]
    assert commit("factor", [[0.95, 0.9, 0.85, 0.8]]) == [[True] * 4], "at the bound it commits"
    assert commit("factor", [[0.1, 0.05, 0.01, 0.2]]) == [[False, False, False, True]]


def test_factor_stops_at_the_first_failure_even_if_a_later_one_would_pass():
    # c = 0.6, 0.6 fails at n = 2 (0.667); it must not go on.
    assert commit("factor", [[0.6, 0.6, 0.6, 0.6]], factor=1.0) == [[True, False, False, False]]


def test_frechet_takes_the_largest_n_whose_bound_holds():
    # bounds: 0.9-0-0.1 = 0.8; 1.7-1-0.2 = 0.5; 2.4-2-0.3 = 0.1
    assert commit("frechet", [[0.9, 0.8, 0.7, 0.1]]) == [[True, True, False, False]]
    assert commit("frechet", [[0.9, 0.8, 0.7, 0.1]], delta=0.05) == [[True, True, True, False]]
    assert commit("frechet", [[0.2, 0.1, 0.1, 0.1]]) == [[True, False, False, False]]


def test_hierarchical_takes_the_best_of_each_run_and_all_above_the_threshold():
    masked = [[True, True, False, True, True, True]]
    confidence = [[0.65, 0.7, 0.99, 0.5, 0.95, 0.91]]
    own = DecodingParams(rule="hierarchical", max_tokens=6, block_length=6)
    chosen = RULES["hierarchical"](candidates(confidence, masked), [RowState(own, 6, 0, 1)]).tolist()
    assert chosen == [[False, True, False, False, True, True]]
    low = [[0.3, 0.2, 0.9, 0.5, 0.4, 0.1]]
    chosen = RULES["hierarchical"](candidates(low, masked), [RowState(own, 6, 0, 1)]).tolist()
    assert chosen == [[False, False, False, True, False, False]], "never none"


def test_credit_rewards_what_was_wanted_before():
    logits = torch.tensor([[2.0, 1.9, 0.0], [0.0, 3.0, 0.0]])
    columns = torch.tensor([0, 2])
    first, state = earn(logits, columns, None, block_length=4)
    p_max = logits.softmax(-1).max(-1).values
    expected = torch.log1p(p_max**0.2) * 0.7
    assert torch.allclose(first - logits, torch.stack([torch.tensor([expected[0], 0, 0]),
                                                       torch.tensor([0, expected[1], 0])]))  # fmt: skip
    second, later = earn(logits[:1], columns[:1], state, block_length=4)
    assert second[0, 0] > first[0, 0], "credit adds up"
    assert torch.allclose(later[2], state[2] * 0.8), "and decays where nothing is earned"
    assert state[1].sum() == 0
