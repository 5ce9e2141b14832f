"""Reading an answer out of a response, and comparing it."""

import pytest

from llada_exp.evals.scoring import Scorer, extract


@pytest.fixture(scope="module")
def scorer():
    with Scorer("math_verify", timeout_s=5.0) as own:
        yield own


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("so \\boxed{12}", "12"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("#### 55\n", "55"),
        ("\\boxed{3}, no: \\boxed{4}", "4"),
        ("\\boxed{3} #### 4", "4"),
        ("#### 4, that is \\boxed{5}", "5"),
        ("\\boxed{", None),
        ("\\boxed{}", None),
        ("it is 5", None),
        ("", None),
    ],
)
def test_the_last_marked_answer_counts_and_an_unmarked_one_does_not(text, found):
    assert extract(text) == found


@pytest.mark.parametrize(
    ("predicted", "expected", "verdict"),
    [
        ("55", "55.0", "correct"),
        ("$1,000$", "1000", "correct"),
        ("\\frac{1}{2}", "0.5", "correct"),
        ("x+1", "1+x", "correct"),
        ("56", "55", "wrong"),
        ("\\frac{1}{", "3", "wrong"),
        ("Tom", "Anna", "wrong"),
        (None, "3", "no_answer"),
    ],
)
def test_answers_are_compared_as_mathematics(scorer, predicted, expected, verdict):
    assert scorer.verdict(predicted, expected) == verdict


def test_exact_match_needs_no_mathematics():
    with Scorer("exact") as own:
        assert own.verdict("55", "55.0") == "correct"
        assert own.verdict("1/2", "0.5") == "wrong"
        assert own._child is None


def test_an_expression_without_end_is_wrong_and_the_next_one_is_still_read():
    """Prevents one answer of a model from stopping an evaluation for ever."""
    with Scorer("math_verify", timeout_s=1.0) as own:
        assert own.verdict("10^{10^{10}}", "3") == "wrong"
        assert own.verdict("1/2", "\\frac{1}{2}") == "correct"
