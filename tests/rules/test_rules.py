"""Commit rules against the arithmetic of their papers."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llada_exp.rules import RULES
from llada_exp.rules.fixed import quota
from llada_exp.types import DECLARATIONS, DecodingParams
from tests.rules.shown import candidates, commit, row_state

PATIENT = {"linear"}
"""Rules that let passes go by: `max_passes` ends their blocks."""


def test_fixed_commits_the_quota_of_the_most_confident():
    assert commit("fixed", [[0.1, 0.9, 0.5, 0.2]], steps=2) == [[False, True, True, False]]


def test_threshold_is_inclusive_and_never_empty():
    assert commit("threshold", [[0.5, 0.75, 0.2, 0.1]], threshold=0.75) == [[False, True, False, False]]
    assert commit("threshold", [[0.5, 0.7, 0.2, 0.1]], threshold=0.9) == [[False, True, False, False]]
    assert commit("threshold", [[0.5, 0.7, 0.2, 0.1]], threshold=0.0) == [[True] * 4]


def test_each_row_keeps_its_own_parameters():
    rows = [
        row_state(DecodingParams(rule="threshold", threshold=t, max_tokens=2, block_length=2), 2)
        for t in (0.3, 0.99)
    ]
    both = RULES["threshold"].select(candidates([[0.5, 0.6], [0.5, 0.6]]), rows).write
    assert both.tolist() == [[True, True], [False, True]]


@given(st.integers(1, 64), st.integers(1, 80), st.integers(1, 4))
def test_quotas_of_a_block_add_up_to_it(masks, steps, blocks):
    own = DecodingParams(max_tokens=masks * blocks, block_length=masks, steps=steps)
    left, step, per_block = masks, 0, -(-steps // blocks)
    while left > 0:
        left -= quota(row_state(own, masks, step))
        step += 1
    assert left == 0
    assert step == min(masks, per_block)


def evidence_of(rows, width):
    numbers = st.lists(st.floats(0, 20, width=32), min_size=width, max_size=width)
    return st.lists(numbers, min_size=rows, max_size=rows)


class Reads:
    """Decoding parameters that remember which fields were read."""

    def __init__(self, params):
        self.params, self.names = params, set()

    def __getattr__(self, name):
        self.names.add(name)
        return getattr(self.params, name)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_reads_the_fields_that_are_declared_as_its_parameters(name):
    """One more would be refused beside it, and one less would do nothing."""
    reads = Reads(DecodingParams(rule=name, max_tokens=4, block_length=4))
    row = replace(row_state(reads.params), params=reads)
    shown = candidates([[0.5, 0.6, 0.7, 0.8]], evidence=[[1.0, 1.0, 1.0, 1.0]])
    if RULES[name].observe:
        RULES[name].observe(torch.zeros(1, 8), torch.tensor([0]), None, row)
    RULES[name].select(shown, [row])
    shared = {"remasking", "block_length"}
    assert reads.names - shared == {field for field, d in DECLARATIONS.items() if name in d.rules}


@given(st.data(), st.sampled_from(sorted(RULES)), st.integers(1, 4), st.integers(1, 8))
def test_every_rule_commits_masked_positions_only_and_most_at_least_one_a_row(data, rule, rows, width):
    confidence = data.draw(
        st.lists(st.lists(st.floats(2**-20, 1.0, width=32), min_size=width, max_size=width),
                 min_size=rows, max_size=rows)
    )  # fmt: skip
    masked = data.draw(
        st.lists(st.lists(st.booleans(), min_size=width, max_size=width).filter(any),
                 min_size=rows, max_size=rows)
    )  # fmt: skip
    own = DecodingParams(rule=rule, max_tokens=width, block_length=width)
    shown = candidates(confidence, masked, data.draw(evidence_of(rows, width)))
    chosen = RULES[rule].select(shown, [row_state(own, width)] * rows).write
    allowed = torch.tensor(masked)
    assert not (chosen & ~allowed).any()
    if rule not in PATIENT:
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
    chosen = RULES["hierarchical"].select(candidates(confidence, masked), [row_state(own, 6)]).write.tolist()
    assert chosen == [[False, True, False, False, True, True]]
    low = [[0.3, 0.2, 0.9, 0.5, 0.4, 0.1]]
    chosen = RULES["hierarchical"].select(candidates(low, masked), [row_state(own, 6)]).write.tolist()
    assert chosen == [[False, False, False, True, False, False]], "never none"


def test_credit_rewards_what_was_wanted_before():
    logits = torch.tensor([[2.0, 1.9, 0.0], [0.0, 3.0, 0.0]])
    columns = torch.tensor([0, 2])
    row = row_state(DecodingParams(max_tokens=4, block_length=4), 4)
    seen = RULES["credit"].observe(logits, columns, None, row)
    first, state = seen.logits, seen.state
    p_max = logits.softmax(-1).max(-1).values
    expected = torch.log1p(p_max**0.2) * 0.7
    assert torch.allclose(first - logits, torch.stack([torch.tensor([expected[0], 0, 0]),
                                                       torch.tensor([0, expected[1], 0])]))  # fmt: skip
    seen = RULES["credit"].observe(logits[:1], columns[:1], state, replace(row, block_step=1))
    second, later = seen.logits, seen.state
    assert second[0, 0] > first[0, 0], "credit adds up"
    assert torch.allclose(later[1][2], state[1][2] * 0.8), "and decays where nothing is earned"
    assert state[1][1].sum() == 0


def test_credit_kept_as_pairs_is_that_of_every_token():
    """Wants that change and come back: a token kept twice, or taken for another, would get another credit."""
    draw = torch.Generator().manual_seed(3)
    credit, state = torch.zeros(6, 9), None
    for step in range(6):
        columns = torch.arange(6 - step)
        logits = torch.randn(6 - step, 9, generator=draw) + 4 * torch.eye(9)[[(step % 2) * 3] * (6 - step)]
        row = row_state(DecodingParams(max_tokens=6, block_length=6), block_step=step)
        seen = RULES["credit"].observe(logits, columns, state, row)
        credit *= 0.8
        best, token = logits.softmax(-1).max(-1)
        credit[columns, token] += best**0.2
        torch.testing.assert_close(seen.logits, logits + 0.7 * torch.log1p(credit[columns]))
        state = seen.state
