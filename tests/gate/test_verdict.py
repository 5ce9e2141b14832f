"""The gate's rule: what passes, what fails, and what too few problems cannot tell."""

import pytest

from llada_exp.gate import verdict
from llada_exp.gate.outcome import Outcome
from llada_exp.gate.verdict import FAIL, PASS, UNDECIDED, Limits, fewest_problems
from llada_exp.runs.statistics import paired, proportion


def said(n, lost=0, gained=0, same=None, limits=None):
    a = [True] * (n - gained) + [False] * gained
    b = [False] * lost + [True] * (n - lost)
    share = (n if same is None else same) / n
    measured = Outcome("mine", "short", proportion(b), paired(a, b), share, 1.0, 1.0, 1.0, 1.0, (), ())
    return verdict.quality_verdict(measured, limits or Limits())


def test_few_problems_prove_nothing():
    """Prevents a gate that is green because it was run on 8 problems."""
    few = said(8)
    assert few.word == UNDECIDED
    assert "8 problems cannot tell whether it stays within 2 (if none is lost, 189 can)" in few.why


@pytest.mark.parametrize(("margin", "n"), [(2.0, 189), (5.0, 73), (10.0, 35)])
def test_as_many_as_are_needed_where_nothing_is_lost(margin, n):
    """Prevents documents and help texts from naming other numbers."""
    assert fewest_problems(margin) == n
    limits = Limits(margin=margin, min_agreement=0)
    assert said(n, limits=limits).word == PASS
    assert said(n - 1, limits=limits).word == UNDECIDED


def test_a_loss_is_told_by_how_much():
    bad = said(300, lost=123)
    assert bad.word == FAIL
    assert str(bad).startswith("mine, short: accuracy -41.0 points [-46.")
    assert "more than 2 below it" in bad.why


def test_between_the_limits_nothing_is_shown():
    """Four of 500 lost: fewer than the margin, but not shown to be."""
    assert said(500, lost=4).word == UNDECIDED
    assert said(500, lost=3).word == PASS
    assert said(1200, lost=12).word == PASS


def test_a_gain_is_no_failure():
    assert said(500, gained=40, same=500).word == PASS


def test_other_texts_fail_though_every_answer_is_right():
    """Positions shifted by one lose no accuracy at all."""
    bad = said(300, same=0)
    assert (bad.word, "vanilla's text in 0.0 %" in bad.why) == (FAIL, True)
    assert said(300, same=270).word == UNDECIDED
    assert said(300, same=290).word == PASS
    assert said(300, same=0, limits=Limits(min_agreement=0)).word == PASS


def test_the_worse_of_the_two_counts_and_both_are_said():
    bad = said(300, lost=100, same=270)
    assert bad.word == FAIL
    assert "accuracy" in bad.why
    assert "text" in bad.why


def test_what_the_gate_lets_through():
    found = [verdict.Verdict("a", "short", word) for word in (PASS, FAIL, UNDECIDED)]
    assert [v.word for v in verdict.failing(found)] == [FAIL, UNDECIDED]
    assert [v.word for v in verdict.failing(found, undecided=PASS)] == [FAIL]


@pytest.mark.parametrize("own", [{"margin": 0}, {"margin": -1}, {"margin": "2"}, {"min_agreement": 101}])
def test_bad_limits_are_named(own):
    with pytest.raises(ValueError, match=next(iter(own))):
        Limits(**own)
