"""Drill rows and weights: what is hidden follows from what is shown, and facts weigh most."""

import itertools
import random
import re

import pytest

from llada_exp.tiny import drills, weighing
from llada_exp.tiny.tokenizer import EOT
from llada_exp.tiny.work import product_lines, sum_line


@pytest.mark.parametrize("kind", ["facts", "lines"])
def test_every_character_has_its_place_in_a_row(kind):
    row = drills.row(kind, random.Random(0), 400)
    assert len(row.text) == len(row.hidden) == len(row.weights) >= 400
    assert set(row.hidden) == {0.0, 1.0}
    assert min(row.weights) > 0


def test_facts_are_true_and_each_hides_something():
    rng = random.Random(1)
    for _ in range(20):
        row = drills.row("facts", rng, 300)
        start = 0
        for fact in re.split(r"(?:, |\n)", row.text)[:-1]:
            left, right = fact.split(" = ")
            assert eval(re.sub(r"\b0(?=\d)", "", left)) == int(right)
            assert any(row.hidden[start : start + len(fact)])
            start += len(fact) + 2 if row.text[start + len(fact)] == "," else len(fact) + 1


def test_a_next_lines_head_is_never_hidden_beside_the_results_that_it_shows():
    """Prevents drills that are solved by reading the answer off the next line."""
    rng = random.Random(2)
    seen = set()
    for _ in range(60):
        row = drills.row("lines", rng, 400)
        lines, start = row.text.split("\n"), 0
        for line, after in itertools.pairwise(lines):
            begin = start + (line.index(EOT) + len(EOT) if EOT in line else 0)
            hidden = any(row.hidden[begin : start + len(line)])
            tail = EOT in after or re.match(r"\d/\d\) \d+ [+-] \d+: $", after)
            if tail and ": " in line:
                assert not hidden, line
                seen.add("#" if EOT in after else ")")
            start += len(line) + 1
    assert seen == {"#", ")"}


def test_looked_up_digits_weigh_most_and_carries_next():
    line = sum_line(347, 285)
    weights = weighing.weigh_line(line)
    assert [char for char, w in zip(line, weights, strict=True) if w == weighing.FACT] == list("236")
    assert [char for char, w in zip(line, weights, strict=True) if w == weighing.CARRY] == list("11110")
    line = sum_line(347, -285)
    weights = weighing.weigh_line(line)
    assert [
        char for char, w in zip(line, weights, strict=True) if char.isdigit() and w == weighing.FACT
    ] == list("260")
    assert [char for char, w in zip(line, weights, strict=True) if w == weighing.CARRY] == list("01001")
    swapped = weighing.weigh_line(sum_line(285, -347).split("\n")[1])
    assert swapped[:3] == [weighing.DECISION] * 2 + [weighing.HEAD]
    facts = product_lines(7, 48)[0]
    looked_up = [c for c, w in zip(facts, weighing.weigh_line(facts), strict=True) if w == weighing.FACT]
    assert looked_up == list("5628")


def test_a_refusal_weighs_by_its_first_word_and_an_answer_by_its_first_character_most():
    weights = weighing.weigh(weighing.REFUSAL)
    assert weights[0] == weighing.DECISION
    assert max(weights[5:]) < 1
    reply = f"{sum_line(3, 5)}\n#### 8"
    assert len(weighing.weigh(reply)) == len(reply)
    assert weighing.weigh(reply)[0] == weighing.DECISION
