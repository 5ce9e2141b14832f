"""Intervals and paired tests against published values."""

import math
import statistics

import pytest

from llada_exp.runs.statistics import (
    PairedMeans,
    bootstrap,
    paired,
    paired_means,
    proportion,
    score_interval,
)


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


def test_equal_runs_do_not_differ_but_few_problems_prove_little():
    """Prevents a gate that two problems turn green: a bootstrap's interval has no width here."""
    result = paired([True, False], [True, False])
    assert (result.p_value, result.difference) == (1.0, 0.0)
    assert (result.low, result.high) == pytest.approx((-0.6576, 0.6576), abs=1e-4)
    # with no discordant pair the score interval is z^2 / (n + z^2) to either side
    assert score_interval(0, 0, 189)[0] == pytest.approx(-3.8415 / (189 + 3.8415), abs=1e-6)


def test_score_interval_of_a_published_case():
    # Airway reactivity in 21 children (Fagerland, Lydersen, Laake, BMC Med. Res. Methodol. 2014), by Tango's
    # method: -0.517 to -0.026
    assert score_interval(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize(("gained", "lost", "n"), [(1, 7, 21), (6, 16, 161), (0, 5, 500), (3, 0, 40)])
def test_its_ends_are_where_the_score_test_just_rejects(gained, lost, n):
    """The most likely P(lost) by a search instead of the formula: prevents a slip in the quadratic."""
    for end in score_interval(gained, lost, n):
        shares = [(end + p, p) for p in (k / 200_000 for k in range(200_001)) if 0 < end + p < 1 - p]
        likely = max(
            shares,
            key=lambda s: (
                gained * math.log(s[0])
                + (lost * math.log(s[1]) if lost else 0)
                + (n - gained - lost) * math.log(1 - s[0] - s[1])
            ),
        )
        error = math.sqrt((sum(likely) - end**2) / n)
        assert abs((gained - lost) / n - end) / error == pytest.approx(1.96, abs=0.01)


def test_all_lost_or_all_gained_ends_at_the_edge():
    assert score_interval(0, 5, 5)[0] == -1.0
    assert score_interval(5, 0, 5)[1] == 1.0


def test_runs_of_different_problems_are_refused():
    with pytest.raises(ValueError, match="same problems"):
        paired([True], [True, False])


def test_bootstrap_of_few_or_equal_values():
    """Prevents an interval of NaN, and an exception, where there is nothing to resample."""
    assert bootstrap([0.5]) == bootstrap([0.5] * 10) == (0.5, 0.5)
    with pytest.raises(ValueError, match="at least one"):
        bootstrap([])


def test_bootstrap_agrees_with_the_normal_interval_of_many_values():
    values = [0.0, 0.25, 0.5, 1.0] * 100
    mean, sd = 0.4375, statistics.pstdev(values)
    half = 1.96 * sd / len(values) ** 0.5
    assert bootstrap(values) == pytest.approx((mean - half, mean + half), abs=0.004)
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1)


def test_sign_flips_of_paired_means():
    """All of 2**6 flips: two reach 6 gains of 1. A difference of 0 is no evidence, nor is one alone."""
    result = paired_means([0.0] * 6 + [0.5], [1.0] * 6 + [0.5])
    assert result.p_value == pytest.approx(2 / 2**6)
    assert result.difference == pytest.approx(6 / 7)
    assert result.low < result.difference < result.high <= 1
    assert paired_means([0.5], [1.0]) == PairedMeans(0.5, 0.5, 0.5, 1.0)
    assert paired_means([0.5, 0.5], [0.5, 0.5]) == PairedMeans(0.0, 0.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="same problems"):
        paired_means([], [])


def test_many_sign_flips_are_drawn_and_never_give_a_p_of_zero():
    result = paired_means([0.0] * 40, [1.0] * 40)
    assert result.p_value == pytest.approx(2 / 10_001)
