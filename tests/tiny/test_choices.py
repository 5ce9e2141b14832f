"""A multiple-choice problem has one right choice, and wrong ones that are right for another question."""

import pytest

from llada_exp.scoring import decide_response, extract, plain
from llada_exp.tiny.choices import END, NUM_CHOICES, choice_problem, problems
from llada_exp.tiny.tasks import MIXES, reply_text
from tests.tiny.test_work import result_of


@pytest.mark.parametrize("kind", MIXES)
def test_one_choice_of_four_is_right(kind):
    for problem in problems(kind, 100):
        own = choice_problem(problem)
        assert len(set(own["choices"])) == NUM_CHOICES
        assert own["choices"][own["answer"]] == reply_text(problem) + END
        assert [decide_response(c, problem.answer) for c in own["choices"]].count(True) == 1
        assert own["number"] == problem.answer
        for choice in own["choices"]:
            assert plain(extract(choice)) == str(result_of(choice.split("\n")[-2])), (
                "else a fault inside a reply gives it away"
            )


def test_places_of_the_right_choice_vary():
    places = [choice_problem(problem)["answer"] for problem in problems("short", 64)]
    assert all(places.count(place) >= 8 for place in range(NUM_CHOICES))
