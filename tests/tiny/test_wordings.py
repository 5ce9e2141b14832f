"""The wordings: many, of every casing and spacing, and one problem in each."""

import random
import re

import pytest

from llada_exp.tiny import stories, tasks, wordings


@pytest.mark.parametrize("kind", ["sums", "differences", "products"])
def test_there_are_hundreds_of_wordings_of_one_operation(kind):
    """Prevents a model that knows a list: dozens of forms, times greetings, casing and spacing."""
    rng = random.Random(0)
    forms = set()
    for _ in range(1500):
        problem = tasks.sample(kind, rng)
        forms.add("".join("9" if char.isdigit() else char for char in problem.question).replace("99", "9"))
    assert len(forms) > 400
    assert {form.isupper() for form in forms} == {True, False}
    assert any(" " not in form for form in forms)


def test_everyday_questions_are_among_them():
    rng = random.Random(1)
    drawn = {wordings.sentence(rng, [53, 18], ["+"]) for _ in range(6000)}
    assert drawn >= {"What is 53 + 18?", "53+18=", "53 + 18", "Add 53 and 18.", "How much is 53 plus 18?"}
    drawn = {wordings.sentence(rng, [53, 18], ["-"]) for _ in range(6000)}
    assert drawn >= {"Take 18 from 53.", "What is 53 - 18?", "Subtract 18 from 53."}
    assert drawn >= {"What is the difference between 53 and 18?", "53 − 18"}


def test_steps_in_words_and_stories_name_every_number_in_order():
    rng = random.Random(2)
    for text in (
        *(wordings.steps_in_words(rng, 111, [222, -333, 444]) for _ in range(30)),
        *(wordings.listed(rng, [111, 222, 333, 444]) for _ in range(30)),
        stories.story(rng, 111, [222, -333, 444], days=True),
        stories.story(rng, 111, [222, -333, 444], days=False),
    ):
        places = [text.index(number) for number in ("111", "222", "333", "444")]
        assert places[1:] == sorted(places[1:]), "of the first step, a verb decides: take 222 from 111"
        assert places[0] < places[2]


def test_totals_of_several_numbers_are_among_the_chains():
    """Prevents `Add 5, 6 and 7` from being answered by the last two."""
    rng = random.Random(3)
    drawn = {wordings.listed(rng, [5, 6, 7]) for _ in range(4000)}
    assert drawn >= {"Add 5, 6 and 7.", "What is the sum of 5, 6 and 7?"}
    chains = [tasks.sample("chains", rng) for _ in range(1500)]
    totals = [problem for problem in chains if "sum of" in problem.question.lower()]
    assert len(totals) > 10
    for problem in totals:
        assert sum(map(int, re.findall(r"\d+", problem.question))) == int(problem.answer) <= 999


def test_nothing_around_a_question_has_a_number_of_its_own():
    """Prevents questions whose numbers, by which they are held out, are not those of the sum."""
    texts = [
        *wordings.BEFORE,
        *wordings.AFTER,
        *wordings.SENTENCES,
        *wordings.LISTS,
        *(f for fs in tasks.FRAMES.values() for f in fs),
    ]
    assert not [text for text in texts if any(char.isdigit() for char in text)]
