"""Scores: what answers add up to, and that nothing is counted as what it is not."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llada_exp.evals.scores import majority, pass_at, score
from tests.evals.samples import answer


def test_accuracy_counts_failures_and_missing_answers_as_wrong_and_shows_them_apart():
    """Prevents a run whose hard problems time out from scoring higher than one that answers them."""
    own = [answer(0), answer(1, verdict="wrong"), answer(2, verdict="no_answer"), answer(3, verdict="failed")]
    told = score(own)
    assert told.accuracy.value == 0.25
    assert (told.no_answer, told.failed) == (0.25, 1)
    assert told.majority is None
    assert told.pass_k is None


def test_answers_that_were_cut_off_are_counted_right_or_wrong():
    own = [answer(0, finish_reason="length"), answer(1, finish_reason="stop")]
    assert score(own).cut_off == 0.5


def test_costs_are_of_the_answers_that_came_and_unknown_where_one_is():
    came = [answer(0, output_tokens=10, nfe=5), answer(1, output_tokens=30, nfe=5)]
    told = score([*came, answer(2, verdict="failed")])
    assert (told.mean_output_tokens, told.mean_nfe, told.tpf) == (20, 5, 4)
    told = score([*came, answer(2)])
    assert (told.mean_output_tokens, told.mean_nfe, told.tpf) == (None, None, None)


def test_intervals_are_wilsons_for_one_sample_and_never_of_no_width():
    told = score([answer(i) for i in range(10)])
    assert (told.accuracy.value, told.accuracy.high) == (1.0, 1.0)
    assert told.accuracy.low == pytest.approx(0.722, abs=1e-3)
    twice = score([answer(i, s) for i in range(10) for s in range(2)])
    assert twice.accuracy.low == pytest.approx(0.722, abs=1e-3), "a bootstrap would claim certainty"


def test_samples_of_a_problem_are_not_independent():
    """Prevents intervals that shrink because the same problems were asked more often."""
    once = [answer(i, 0, "correct" if i % 2 else "wrong") for i in range(40)]
    often = [answer(i, s, "correct" if i % 2 else "wrong") for i in range(40) for s in range(8)]
    a, b = score(once).accuracy, score(often).accuracy
    assert b.high - b.low == pytest.approx(a.high - a.low, rel=0.15)


def test_a_benchmark_that_misses_answers_is_refused():
    with pytest.raises(ValueError, match="1 problems with 1, 1 problems with 2"):
        score([answer(0, 0), answer(0, 1), answer(1, 0)])


def votes(*predicted, right="7"):
    return [
        answer(
            0,
            i,
            "no_answer" if p is None else "correct" if float(p) == float(right) else "wrong",
            predicted=p,
        )
        for i, p in enumerate(predicted)
    ]


def test_the_majority_counts_numbers_by_value_and_no_answer_as_no_vote():
    assert majority(votes("7", "7.0", "8", None, None, None)) == 1
    assert majority(votes("8", "8", "7")) == 0
    assert majority(votes(None, None)) == 0


def test_a_tie_is_worth_its_share_whatever_the_order():
    """Prevents a score that depends on which sample came first."""
    for order in itertools.permutations(["7", "8", "9", None]):
        assert majority(votes(*order)) == pytest.approx(1 / 3)


@given(st.integers(1, 8), st.data())
def test_pass_at_k_is_the_mean_over_all_choices_of_k(n, data):
    num_right = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n))
    samples = [True] * num_right + [False] * (n - num_right)
    chosen = list(itertools.combinations(samples, k))
    assert math.isclose(pass_at(k, n, num_right), sum(map(any, chosen)) / len(chosen), abs_tol=1e-12)


def test_pass_at_one_is_accuracy_and_pass_at_all_is_any():
    own = [answer(i, s, "correct" if s == i else "wrong") for i in range(3) for s in range(3)]
    own += [answer(9, s, "wrong") for s in range(3)]
    told = score(own)
    assert told.pass_at[1].value == told.accuracy.value == 0.25
    assert told.pass_k == told.pass_at[3]
    assert told.pass_k.value == 0.75
    assert sorted(told.pass_at) == [1, 2, 3]
