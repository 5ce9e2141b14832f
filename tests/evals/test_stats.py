"""Intervals and paired tests against published values."""

import pytest

from llada_exp.evals.stats import paired, proportion


def test_wilson_interval_of_a_textbook_case():
    # Newcombe (1998), table I: 81 of 263 -> 0.2553 to 0.3662
    result = proportion([True] * 81 + [False] * 182)
    assert (result.low, result.high) == pytest.approx((0.2553, 0.3662), abs=2e-4)


def test_a_perfect_score_still_has_an_interval():
    assert proportion([True] * 20).low == pytest.approx(0.8389, abs=1e-4)


def test_mcnemar_counts_only_the_discordant_pairs():
    a = [True] * 8 + [False] * 1 + [True] * 100
    b = [False] * 8 + [True] * 1 + [True] * 100
    result = paired(a, b)
    assert (result.gained, result.lost) == (1, 8)
    assert result.p_value == pytest.approx(2 * (1 + 9) / 2**9)
    assert result.difference == pytest.approx(-7 / 109)
    assert result.low < result.difference < result.high < 0.01


def test_equal_runs_do_not_differ():
    result = paired([True, False], [True, False])
    assert (result.p_value, result.low, result.high) == (1.0, 0.0, 0.0)


def test_runs_of_different_problems_are_refused():
    with pytest.raises(ValueError, match="same problems"):
        paired([True], [True, False])
