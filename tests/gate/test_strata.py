"""The strata: what is drawn is what it is called, held out, and the same on every call."""

import re

import pytest

from llada_exp.gate import strata
from llada_exp.gate.strata import STRATA, Stratum, problems
from llada_exp.tiny.tasks import is_held_out

DRAWN = {kind: problems(kind, 60) for kind in STRATA}


@pytest.mark.parametrize("kind", STRATA)
def test_problems_are_held_out_distinct_and_the_same_on_every_call(kind):
    """Prevents a gate that judges by what was trained on, and runs that cannot be resumed or compared."""
    questions = [problem.question for problem in DRAWN[kind]]
    assert len(set(questions)) == 60
    assert all(map(is_held_out, questions))
    assert questions[:20] == [problem.question for problem in problems(kind, 20)]


@pytest.mark.parametrize("kind", ["readme", "sums", "differences", "carry", "no_carry", "three_digits"])
def test_answers_are_right_and_within_the_domain(kind):
    for problem in DRAWN[kind]:
        head = re.match(r"(\d+) ([+-]) (\d+)", problem.work)
        change = int(head[2] + head[3])
        assert int(head[1]) + change == int(problem.answer)
        assert {int(head[1]), abs(change)} == set(map(int, re.findall(r"\d+", problem.question)))
        assert -999 <= int(problem.answer) <= 1998


def operands(problem):
    """Of the work's first line: the first number and what it is changed by."""
    head = re.match(r"(?:\d/\d\) )?(\d+) ([+-]) (\d+)", problem.work)
    return int(head[1]), int(head[2] + head[3])


def test_each_is_what_it_is_called():
    assert all(re.fullmatch(r"What is \d+ [-+] \d+\?", p.question) for p in DRAWN["readme"])
    assert {operands(p)[1] > 0 for p in DRAWN["readme"]} == {True, False}
    assert {operands(p)[1] >= 0 for p in DRAWN["sums"]} == {True}
    assert {operands(p)[1] <= 0 for p in DRAWN["differences"]} == {True}
    for kind in ("carry", "no_carry"):
        for problem in DRAWN[kind]:
            first, step = operands(problem)
            units = first % 10 + (step % 10 if step > 0 else -(-step % 10))
            assert 10 <= min(first, abs(step)) <= max(first, abs(step)) <= 99
            assert (not 0 <= units <= 9) == (kind == "carry")
    assert all(min(first, abs(step)) >= 100 for first, step in map(operands, DRAWN["three_digits"]))
    assert {len(p.work.splitlines()) for p in DRAWN["chains"]} == {2, 3, 4, 5, 6}
    assert {len(p.work.splitlines()) for p in DRAWN["long"]} == {3, 4, 5, 6}
    assert all(" * " in p.work for p in DRAWN["products"])
    assert all(p.refused for p in DRAWN["refusals"])
    assert all(1 <= len(p.earlier) <= 40 for p in DRAWN["follow_ups"])
    assert any(len(p.earlier) > 7 for p in DRAWN["follow_ups"]), "people go on for longer"
    assert {p.refused for p in DRAWN["follow_ups"]} == {True, False}
    assert not any(p.earlier for kind in STRATA if kind != "follow_ups" for p in DRAWN[kind])
    assert all(
        re.search("how m|what (is|does)|and now", p.question.lower())
        for p in (*DRAWN["stories"], *DRAWN["long"])
    )


def test_a_kind_that_there_is_not_and_more_problems_than_there_are_are_refused(monkeypatch):
    """Prevents a draw that never ends."""
    with pytest.raises(ValueError, match="kinds holds 'medium'"):
        problems("medium", 1)
    (only,) = problems("readme", 1)
    monkeypatch.setitem(STRATA, "one", Stratum("one problem", 1.0, 1, lambda rng: only))
    monkeypatch.setattr(strata, "MAX_MISSES", 50)
    assert problems("one", 1) == [only]
    with pytest.raises(ValueError, match="num_problems is 2; of one there are 1 held out"):
        problems("one", 2)


def test_there_are_enough_to_pass_where_one_is_lost():
    """Prevents a stratum that is undecided whatever was found."""
    from llada_exp.runs.statistics import score_interval

    for kind, stratum in STRATA.items():
        assert -100 * score_interval(0, 1, stratum.enough)[0] < stratum.margin, kind
    assert len(problems("readme", STRATA["readme"].enough)) == 600
