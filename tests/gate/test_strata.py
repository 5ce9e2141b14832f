"""The strata: what is drawn is what it is called, held out, and the same on every call."""

import re
from collections import Counter

import pytest

from llada_exp.gate.strata import STRATA, problems
from llada_exp.tiny.tasks import is_held_out

DRAWN = {kind: problems(kind, 60) for kind in STRATA}
PLAIN = re.compile(r"(\d+) ?(\+|-|plus|minus) ?(\d+)")


def operands(problem):
    first, sign, second = PLAIN.search(problem.question).groups()
    return int(first), -1 if sign in ("-", "minus") else 1, int(second)


@pytest.mark.parametrize("kind", STRATA)
def test_problems_are_held_out_distinct_and_the_same_on_every_call(kind):
    """Prevents a gate that judges by what was trained on, and runs that cannot be resumed or compared."""
    questions = [problem.question for problem in DRAWN[kind]]
    assert len(set(questions)) == 60
    assert all(map(is_held_out, questions))
    assert questions[:20] == [problem.question for problem in problems(kind, 20)]


@pytest.mark.parametrize("kind", ["readme", "sums", "differences", "carry", "no_carry"])
def test_answers_are_right_and_within_the_domain(kind):
    for problem in DRAWN[kind]:
        first, sign, second = operands(problem)
        assert problem.answer == str(first + sign * second)
        assert 0 <= int(problem.answer) <= 99
        assert problem.work.endswith(f"{int(problem.answer):02d}")


def test_each_is_what_it_is_called():
    assert all(re.fullmatch(r"What is \d+ [-+] \d+\?", p.question) for p in DRAWN["readme"])
    assert {operands(p)[1] for p in DRAWN["readme"]} == {1, -1}
    assert {operands(p)[1] for p in DRAWN["sums"]} == {1}
    assert {operands(p)[1] for p in DRAWN["differences"]} == {-1}
    for kind in ("carry", "no_carry"):
        for problem in DRAWN[kind]:
            first, sign, second = operands(problem)
            units = first % 10 + sign * (second % 10)
            assert min(first, second) >= 10
            assert (not 0 <= units <= 9) == (kind == "carry")
    assert {len(p.work.splitlines()) for p in DRAWN["chains"]} == {2}
    assert all("How many" in p.question for p in (*DRAWN["stories"], *DRAWN["long"]))


def test_plain_sums_are_mostly_of_two_digits():
    """What the mix `short` has one in seven of, and what a newcomer asks: the reason for strata."""
    lines = Counter(len(problem.work.splitlines()) for problem in DRAWN["sums"])
    assert lines[2] > 40


def test_a_kind_that_there_is_not_and_more_problems_than_there_are_are_refused():
    """Prevents a draw that never ends: of the README's wording there are some six hundred."""
    with pytest.raises(ValueError, match="kinds holds 'medium'"):
        problems("medium", 1)
    with pytest.raises(ValueError, match="num_problems is 5000; of readme there are 6"):
        problems("readme", 5000)


def test_there_are_enough_to_pass_where_one_is_lost():
    """Prevents a stratum that is undecided whatever was found."""
    from llada_exp.runs.statistics import score_interval

    for kind, stratum in STRATA.items():
        assert -100 * score_interval(0, 1, stratum.enough)[0] < stratum.margin, kind
    assert len(problems("readme", STRATA["readme"].enough)) == 600
