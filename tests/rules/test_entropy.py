"""`entropy` against EB-Sampler's arithmetic."""

import math

import pytest
import torch

from llada_exp.rules import RULES
from llada_exp.rules.entropy import entropies
from llada_exp.types import DecodingParams
from tests.rules.shown import candidates, commit, observe, row_state

SURE = [[0.5] * 4]  # the confidences play no part


def test_the_largest_entropy_is_left_out_of_the_sum():
    # ascending 0.02, 0.05, 0.3, 0.9; sums less their largest: 0, 0.02, 0.07, 0.37
    entropy = [[0.3, 0.02, 0.9, 0.05]]
    assert commit("entropy", SURE, evidence=entropy, gamma=0.1) == [[True, True, False, True]]
    assert commit("entropy", SURE, evidence=entropy, gamma=0.5) == [[True] * 4]
    assert commit("entropy", SURE, evidence=entropy, gamma=0.0) == [[False, True, False, False]], "one always"


def test_at_the_bound_it_commits_and_equal_entropies_go_to_the_lower_position():
    entropy = [[0.5, 0.25, 0.25, 0.5]]
    assert commit("entropy", SURE, evidence=entropy, gamma=0.5) == [[True, True, True, False]]


def test_decided_positions_neither_commit_nor_count():
    entropy, masked = [[0.0, 0.2, 0.0, 0.3]], [[False, True, False, True]]
    assert commit("entropy", SURE, masked, entropy, gamma=0.1) == [[False, True, False, False]]


def test_the_count_is_each_rows_own():
    """A published implementation takes one count for all rows of a batch."""
    entropy = [[0.01, 0.01, 0.01, 0.01], [2.0, 2.0, 2.0, 2.0]]
    assert commit("entropy", SURE * 2, evidence=entropy) == [[True] * 4, [True, False, False, False]]


def test_random_remasking_orders_at_random_within_the_same_bound():
    params = DecodingParams(rule="entropy", remasking="random", max_tokens=3, block_length=3, gamma=1.0)
    shown = candidates([[0.2, 0.9, 0.8]], evidence=[[0.1, 0.7, 0.6]])
    # by the random number 0.7, 0.6, 0.1: sums less their largest 0, 0.6, 0.7
    assert RULES["entropy"].select(shown, [row_state(params)]).write.tolist() == [[True, True, True]]
    shown.evidence = shown.evidence * 2
    assert RULES["entropy"].select(shown, [row_state(params)]).write.tolist() == [[False, True, False]]


def test_ends_held_back_come_last_however_low_their_entropy():
    """Or `eos_confidence=last` would leave a pass without a commit."""
    params = DecodingParams(rule="entropy", max_tokens=2, block_length=2, gamma=0.0)
    shown = candidates([[0.5, 0.5]], evidence=[[0.5, 1.0]])
    shown.odds[0, 0] = torch.inf
    assert RULES["entropy"].select(shown, [row_state(params)]).write.tolist() == [[False, True]]


def test_the_evidence_is_the_entropy_in_nats():
    logits = [[0.0] * 8, [math.log(3), 0.0, -math.inf, *[-math.inf] * 5]]
    seen = observe("entropy", logits, [0, 3])
    expected = [math.log(8), math.log(4) - 0.75 * math.log(3)]
    assert seen.evidence.tolist() == pytest.approx(expected)
    assert seen.logits.tolist() == torch.tensor(logits).tolist(), "nothing is changed"


def test_entropies_near_zero_keep_their_digits():
    """log_softmax in float32 rounds them all to 0 or noise, and their order with them."""
    logits = torch.zeros(40, 64)
    logits[:, 7] = torch.linspace(10, 80, 40)
    found = entropies(logits)
    exact = logits.double()
    behind = exact - exact[:, 7:8]
    rest = 63 * behind[:, 0].exp()
    expected = rest.log1p() - rest * behind[:, 0] / (1 + rest)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
    assert (found.diff() < 0).all()
