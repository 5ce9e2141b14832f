"""Drill rows: independent facts and lines without a prompt, masked after what they follow from.

    facts    columns and products by chance: `4 + 8 + 1 = 13, 14 - 8 - 1 = 5, 7 * 8 = 56`
    lines    a line of work, and what follows it: the next line's head, or the last line

Chained lines cannot be drilled so, for a result shows again at the head of the next line. Knows characters,
no tokens: what is hidden and what weighs is by character. Standard library only.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from llada_exp.tiny.tasks import draw_near, draw_number, draw_pair
from llada_exp.tiny.tokenizer import EOT
from llada_exp.tiny.weighing import DECISION, END, HEAD, weigh_line
from llada_exp.tiny.work import LARGEST, add_column, product_lines, subtract_column, sum_line

_LATER = 0.25  # of columns behind the first hidden one


@dataclass
class DrillText:
    """A text, and for each of its characters whether it is hidden (1 or 0) and its weight."""

    text: str = ""
    hidden: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add(self, text: str, hidden: bool = False, weight: float = 1.0) -> None:
        self.text += text
        self.hidden += [float(hidden)] * len(text)
        self.weights += [weight] * len(text)

    def add_partly(self, text: str, hidden: list[bool], weights: list[float]) -> None:
        self.text += text
        self.hidden += hidden
        self.weights += weights


def row(kind: str, rng: random.Random, size: int) -> DrillText:
    """At least `size` characters of "facts" or "lines"."""
    drill = DrillText()
    while len(drill.text) < size:
        if kind == "facts":
            _add_fact(drill, rng)
        else:
            _add_line(drill, rng)
    return drill


def _add_fact(drill: DrillText, rng: random.Random) -> None:
    kind = rng.random()
    one, other = rng.randint(0, 9), rng.randint(0, 9)
    if kind < 0.17:
        text = add_column(one, other, None)
    elif kind < 0.4:
        text = add_column(one, other, rng.randint(0, 1))
    elif kind < 0.56:
        text = subtract_column(one, other, None)
    elif kind < 0.76:
        text = subtract_column(one, other, rng.randint(0, 1))
    else:
        text = f"{one} * {other} = {one * other:02d}"
    weights = weigh_line(text)
    hidden = [False] * len(text)
    equals = text.index("=") + 2
    if rng.random() < 0.92:
        hidden[equals:] = [True] * (len(text) - equals)
    if text[1] != " " and (rng.random() < 0.7 or not any(hidden)):
        hidden[0] = True  # the borrow
    if not any(hidden):
        hidden[-1] = True
    drill.add_partly(text, hidden, weights)
    drill.add(rng.choice((", ", "\n")))


def _add_line(drill: DrillText, rng: random.Random) -> None:
    """A line, hidden from its first token after the operands, from some column, or only in its results; or
    whole, and what follows is hidden."""
    after, width, mode = "", 2, rng.random()
    if rng.random() < 0.18:
        digit, number = rng.randint(0, 9), rng.randint(0, 99)
        facts, line = product_lines(digit, number)
        total, width = digit * number, 3
        if rng.random() < 0.4:
            line, after = facts, line[: line.index(":") + 2]
    else:
        first, second = draw_pair(rng)
        sign = rng.choice((1, -1))
        if sign < 0 and first < second and rng.random() < 0.5:
            first, second = second, first
        if rng.random() < 0.4:  # few digits, or just above a hundred: how the end writes it
            near = sign < 0 and rng.random() < 0.6
            first, second = draw_near(rng) if near else _near_a_bound(rng, sign)
            mode = rng.uniform(0.3, 1.0)
        width = 3 if rng.random() < 0.2 else 2
        line, total = sum_line(first, sign * second, width, sign < 0), first + sign * second
        width = max(width, len(str(first)), len(str(second)))
        if "\n" in line:
            line, swapped = line.split("\n")
            if rng.random() < 0.5:
                after = swapped[: swapped.index(":") + 2]
            else:
                line = swapped
    weights = weigh_line(line)
    head = line.rindex(": ") + 2
    columns = line[head:].split(", ")
    starts = [head + sum(len(c) + 2 for c in columns[:place]) for place in range(len(columns))]
    hidden = [False] * len(line)
    if mode < 0.13:
        operands = _operands_end(line)
        hidden[operands:] = [True] * (len(line) - operands)
        weights[starts[0] :] = [_LATER * w for w in weights[starts[0] :]]
    elif mode < 0.35:
        number = rng.randrange(len(columns))
        hidden[starts[number] :] = [True] * (len(line) - starts[number])
        if number + 1 < len(columns):
            later = starts[number + 1]
            weights[later:] = [_LATER * w for w in weights[later:]]
    elif mode < 0.45:  # what is looked up, in every column
        for place in range(head, len(line)):
            hidden[place] = weights[place] >= 3.0
    drill.add_partly(line, hidden, weights)
    if mode < 0.45:
        drill.add("\n")
    elif after:
        drill.add("\n")
        drill.add_partly(after, [True] * len(after), weigh_line(after))
        drill.add("\n")
    else:
        _add_end(drill, rng, total, width, " - " in line)


def _near_a_bound(rng: random.Random, sign: int) -> tuple[int, int]:
    """Two numbers whose sum or difference begins with zeros, in a line's width, or with a one of carry."""
    total = rng.randint(0, 9) if rng.random() < 0.5 else rng.randint(90, 199)
    if sign > 0:
        first = rng.randint(0, total)
        return first, total - first
    second = rng.randint(0, rng.choice((99, LARGEST - total)))
    return second + total, second


def _add_end(drill: DrillText, rng: random.Random, total: int, width: int, minus: bool) -> None:
    """The next line's head, or the last line: behind a whole line, whose results they would show. minus:
    whether the line might have been below zero, and so have had another behind it."""
    how = rng.random()
    if how < 0.45 and 0 <= total <= 999:
        other = draw_number(rng, rng.choice((9, 99, 99, 999)))
        width = max(width, len(str(total)), len(str(other)))
        count = rng.randint(2, 6)
        drill.add(f"\n{rng.randint(2, count)}/{count}) ")
        drill.add(f"{total:0{width}d}", True, HEAD)
        drill.add(f" {rng.choice('+-')} {other:0{width}d}: \n")
    elif how < 0.85:
        drill.add("\n")
        drill.add("#### ", minus, DECISION)
        drill.add(f"{total}{EOT}", True, END)
    else:
        drill.add("\n\\boxed")
        drill.add(f"{{{total}}}{EOT}", True, END)


def _operands_end(line: str) -> int:
    """Behind the right operand, where a swap is told by the next token."""
    place = line.index(" ") + 3
    while line[place].isdigit():
        place += 1
    return place
