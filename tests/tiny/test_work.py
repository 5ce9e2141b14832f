"""The lines of work: each token right, of a fixed width, and a chain's lines one from the other."""

import itertools
import random
import re

from llada_exp.tiny.work import chain_lines, product_lines, sum_line


def columns_of(line):
    """Of the last of a sum's lines."""
    return line.rsplit(": ", 1)[1].split(", ")


def is_true(column):
    left, right = column.split(" = ")
    return eval(re.sub(r"\b0(?=\d)", "", left)) == int(right)


def result_of(line):
    """What the columns say, read by themselves: each one's last digit, and the last sum's carry."""
    columns = columns_of(line)
    digits = "".join(column[-1] for column in reversed(columns))
    if " + " in columns[-1]:
        digits = columns[-1][-2] + digits
    return int(digits) * (-1 if line.split("\n")[-1].startswith("-(") else 1)


def test_every_sum_and_difference_of_the_domain_reads_off_its_columns():
    """Prevents work that is wrong for one pair of digits: the model would learn it."""
    rng = random.Random(0)
    pairs = [(a, b) for a in range(0, 1000, 7) for b in rng.sample(range(1000), 6)]
    pairs += [(a, b) for a in range(20) for b in range(20)] + [(999, 999), (0, 999), (999, 0), (100, 99)]
    for first, second in pairs:
        for step in (second, -second):
            line = sum_line(first, step)
            assert all(is_true(column) for part in line.split("\n") for column in columns_of(part)), line
            assert result_of(line) == first + step, line


def test_a_difference_is_swapped_where_its_last_column_borrows_and_nowhere_else():
    """Prevents a head that hangs on which number is larger: of near ones the model guessed."""
    for first in range(0, 1000, 3):
        for second in (*range(max(0, first - 12), min(999, first + 12) + 1), 0, 9, 99, 500, 999):
            line, *swapped = sum_line(first, -second, minus=True).split("\n")
            width = max(2, len(str(first)), len(str(second)))
            assert line.startswith(f"{first:0{width}d} - {second:0{width}d}: ")
            assert bool(swapped) == (columns_of(line)[-1][0] == "1") == (first < second)
            if swapped:
                assert swapped[0].startswith(f"-({second:0{width}d} - {first:0{width}d}): ")


def test_carries_and_borrows_go_to_the_next_column():
    rng = random.Random(1)
    for _ in range(500):
        line = sum_line(rng.randint(0, 999), rng.randint(-999, 999), 3)
        columns = columns_of(line)
        for column, after in itertools.pairwise(columns):
            handed_on = column.split(" = ")[1][0] if "+" in column else column[0]
            assert after.split(" = ")[0][-1] == handed_on, line


def test_columns_of_one_place_are_of_one_length():
    """Prevents distances that depend on what is computed: every digit is found at the same one."""
    rng = random.Random(2)
    lines = [sum_line(rng.randint(0, 999), rng.randint(0, 999) * rng.choice((1, -1)), 3) for _ in range(300)]
    assert {tuple(map(len, columns_of(line))) for line in lines} == {(10, 14, 14)}


def test_examples_of_the_docstring():
    assert sum_line(347, 285) == "347 + 285: 7 + 5 = 12, 4 + 8 + 1 = 13, 3 + 2 + 1 = 06"
    assert sum_line(347, -285) == "347 - 285: 07 - 5 = 2, 14 - 8 - 0 = 6, 03 - 2 - 1 = 0"
    below = "12 - 30: 02 - 0 = 2, 11 - 3 - 0 = 8\n-(30 - 12): 10 - 2 = 8, 03 - 1 - 1 = 1"
    assert sum_line(12, -30) == below
    facts, line = product_lines(7, 48)
    assert facts == "7 * 48: 7 * 8 = 56, 7 * 4 = 28"
    assert line == "280 + 056: 0 + 6 = 06, 8 + 5 + 0 = 13, 2 + 0 + 1 = 03"


def test_every_product_of_the_domain():
    for digit in range(10):
        for number in range(100):
            facts, line = product_lines(digit, number)
            assert all(eval(left) == int(right) for left, right in re.findall(r"(\d \* \d) = (\d\d)", facts))
            assert result_of(line) == digit * number


def test_a_chains_lines_follow_from_each_other_and_never_narrow():
    rng = random.Random(3)
    for _ in range(300):
        total, steps = rng.randint(0, 500), []
        for _ in range(rng.randint(2, 6)):
            steps.append(rng.randint(-min(99, total + sum(steps)), 60))
        lines, widths = chain_lines(total, steps), []
        for number, (line, step) in enumerate(zip(lines, steps, strict=True), 1):
            found = re.match(r"(\d)/(\d)\) (\d+) ([+-]) (\d+): ", line)
            assert found, line
            assert (int(found[1]), int(found[2]), int(found[3])) == (number, len(steps), total)
            assert int(found[4] + found[5]) == step
            total += step
            assert result_of(line) == total
            widths.append(len(found[5]))
        assert widths == sorted(widths)
    assert chain_lines(1, [2])[0].startswith("01 + 02: "), "one step has no number"
