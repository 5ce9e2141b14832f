"""The lines of work of the embedded model's answers: one operation a line, one column of digits at a time.

    347 + 285: 7 + 5 = 12, 4 + 8 + 1 = 13, 3 + 2 + 1 = 06      carry: the result's leading digit
    347 - 285: 07 - 5 = 2, 14 - 8 - 0 = 6, 03 - 2 - 1 = 0      borrow: the leading 1 of what it is taken from
    12 - 30: 02 - 0 = 2, 11 - 3 - 0 = 8                        a borrow in the last column: below zero, so
    -(30 - 12): 10 - 2 = 8, 03 - 1 - 1 = 1                     swapped, on a line of its own
    7 * 48: 7 * 8 = 56, 7 * 4 = 28                             a product: two facts, then a sum
    280 + 056: 0 + 6 = 06, 8 + 5 + 0 = 13, 2 + 0 + 1 = 03

Both operands have the width of the wider one, two digits at least; in a chain no line is narrower than the
one before. So every token depends on few others at fixed distances, and some 500 facts make every answer;
which of two numbers is larger is no fact, but read off the columns.

Standard library only: knows neither wordings nor tokens.
"""

from __future__ import annotations

MIN_WIDTH = 2
LARGEST = 999
"""Of an operand, and of a chain's totals."""

SWAPPED = "-("
"""Begins the second line of a difference that is below zero."""


def sum_line(left: int, step: int, least_width: int = MIN_WIDTH, minus: bool = False) -> str:
    """`left` changed by `step`, both of at most three digits; two lines where that is below zero. minus: a
    step of 0 is taken away."""
    size = abs(step)
    width = max(least_width, len(str(left)), len(str(size)))
    if step > 0 or (step == 0 and not minus):
        return f"{head(left, '+', size, width)}: {', '.join(_add_columns(left, size, width))}"
    line = f"{head(left, '-', size, width)}: {', '.join(_subtract_columns(left, size, width))}"
    if left >= size:
        return line
    return (
        f"{line}\n{SWAPPED}{head(size, '-', left, width)}): {', '.join(_subtract_columns(size, left, width))}"
    )


def head(left: int, sign: str, right: int, width: int) -> str:
    return f"{left:0{width}d} {sign} {right:0{width}d}"


def _add_columns(left: int, right: int, width: int) -> list[str]:
    columns, carry = [], 0
    for place in range(width):
        one, other = left // 10**place % 10, right // 10**place % 10
        columns.append(add_column(one, other, carry if place else None))
        carry = (one + other + carry) // 10
    return columns


def _subtract_columns(left: int, right: int, width: int) -> list[str]:
    columns, borrow = [], 0
    for place in range(width):
        one, other = left // 10**place % 10, right // 10**place % 10
        columns.append(subtract_column(one, other, borrow if place else None))
        borrow = int(one < other + borrow)
    return columns


def add_column(one: int, other: int, carry: int | None) -> str:
    """carry: None in the units' column, which has none."""
    plus = "" if carry is None else f" + {carry}"
    return f"{one} + {other}{plus} = {one + other + (carry or 0):02d}"


def subtract_column(one: int, other: int, borrow: int | None) -> str:
    """borrow: of the column before; None in the units' column."""
    minus = "" if borrow is None else f" - {borrow}"
    off = other + (borrow or 0)
    above = one + 10 * (one < off)
    return f"{above:02d} - {other}{minus} = {above - off}"


def product_lines(digit: int, number: int) -> list[str]:
    """`digit` 0 to 9 times `number` 0 to 99: two facts, and the sum of what they come to."""
    units, tens = number % 10, number // 10
    facts = f"{digit} * {units} = {digit * units:02d}, {digit} * {tens} = {digit * tens:02d}"
    return [f"{digit} * {number:02d}: {facts}", sum_line(digit * tens * 10, digit * units, 3)]


def chain_lines(start: int, steps: list[int], minus: bool = False) -> list[str]:
    """The lines for `start` changed by each of `steps`; where there are several, each says which of how many
    it is, so that whether it is the last one can be read off it. minus: a single step of 0 is taken away."""
    if len(steps) == 1:
        return [sum_line(start, steps[0], minus=minus)]
    lines, total, width = [], start, MIN_WIDTH
    for number, step in enumerate(steps, 1):
        width = max(width, len(str(total)), len(str(abs(step))))
        lines.append(f"{number}/{len(steps)}) {sum_line(total, step, width)}")
        total += step
    return lines
