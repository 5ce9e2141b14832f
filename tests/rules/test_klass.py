"""`klass` against KLASS's arithmetic."""

import pytest
import torch

from llada_exp.rules import RULES
from tests.rules.shown import commit, observe


def distributions(*rows):
    return torch.tensor(rows).log().tolist()


def test_sure_and_settled_candidates_commit_and_both_bounds_are_strict():
    confidence = [[0.95, 0.75, 0.8, 0.99]]
    chosen = commit("klass", confidence, evidence=[[2.0, 2.0, 2.0, 1.0]], threshold=0.75)
    assert chosen == [[True, False, True, False]], "0.75 is not above 0.75; one pass is not two"
    assert commit("klass", confidence, evidence=[[9.0, 2.0, 3.0, 1.0]], threshold=0.75, history=3) == [
        [True, False, True, False]
    ]


def test_without_any_the_most_confident_commits():
    assert commit("klass", [[0.95, 0.9, 0.99]], evidence=[[0.0, 1.0, 1.0]]) == [[False, False, True]]
    assert commit("klass", [[0.5, 0.4, 0.3]], evidence=[[5.0, 5.0, 5.0]]) == [[True, False, False]]


def test_decided_positions_never_commit():
    chosen = commit("klass", [[0.95, 0.95]], [[False, True]], [[5.0, 0.0]])
    assert chosen == [[False, True]]


def test_a_pass_is_settled_where_the_divergence_from_the_pass_before_is_small():
    """D(p_t || p_{t-1}): 0.9 log(0.9 / 0.5) + 0.1 log(0.1 / 0.5) = 0.3681; the other way it is 0.5108."""
    first, second = distributions([0.5, 0.5]), distributions([0.9, 0.1])
    for threshold, settled in ((0.37, 1.0), (0.36, 0.0)):
        state = observe("klass", first, [1], kl_threshold=threshold).state
        assert observe("klass", second, [1], state, kl_threshold=threshold).evidence.tolist() == [settled]


def test_passes_are_counted_in_a_row_from_the_second_on():
    near, far = distributions([0.9, 0.1]), distributions([0.1, 0.9])
    state, counts = None, []
    for logits in (near, near, near, far, far, far):
        seen = observe("klass", logits, [2], state)
        counts.append(seen.evidence.item())
        state = seen.state
    assert counts == [0, 1, 2, 0, 1, 2]


def test_a_position_seen_for_the_first_time_has_no_history():
    """A shifted model's block opens with one position; the others must not be measured against nothing."""
    logits = distributions([0.9, 0.1])
    state = observe("klass", logits, [0]).state
    seen = observe("klass", logits * 2, [0, 3], state)
    assert seen.evidence.tolist() == [1, 0]


def test_the_state_it_was_given_stands_unchanged():
    """A step that fails is run again."""
    logits = distributions([0.9, 0.1])
    state = observe("klass", logits, [0]).state
    before = [part.clone() for part in state]
    again = [observe("klass", distributions([0.5, 0.5]), [0], state).evidence for _ in range(2)]
    assert again[0].tolist() == again[1].tolist()
    for part, old in zip(state, before, strict=True):
        torch.testing.assert_close(part, old, equal_nan=True, rtol=0, atol=0)


def test_tokens_of_no_probability_divide_by_nothing():
    logits = [[0.0, -torch.inf, -200.0]]
    state = observe("klass", logits, [0]).state
    assert observe("klass", logits, [0], state).evidence.tolist() == [1]
    moved = [[-torch.inf, 0.0, -200.0]]
    assert observe("klass", moved, [0], state).evidence.tolist() == [0]


@pytest.mark.parametrize("name", ["credit", "klass"])
def test_a_state_takes_what_the_memory_plan_is_told(name):
    state = observe(name, [[0.0] * 50], [0], block_length=8).state
    parts = state if isinstance(state, tuple) else (state,)
    assert sum(part.nbytes for part in parts) == RULES[name].state_bytes(8, 50)
