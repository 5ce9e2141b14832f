"""How much each character of an answer weighs in training: by what it takes to know it.

A digit that is looked up, rather than copied, is learned last and weighs most; next a carry or a borrow,
which hang on one unit more or less. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from llada_exp.domain import REFUSAL
from llada_exp.tiny.work import SWAPPED

Chars = Sequence[float]
"""A value for each character of a text."""

TEXT, DIGIT, HEAD, DECISION, CARRY, FACT, END = 0.6, 1.5, 2.0, 4.0, 3.0, 4.0, 3.0
_SENTENCE = 0.5  # of the refusal, once it has begun
_COLUMN = re.compile(r"(?:(\d)|(\d)(\d)) [+-] (\d)(?: [+-] (\d))? = (\d)(\d)?(?!\d)")
_FACT = re.compile(r"\d \* \d = (\d\d)")
_HEAD = re.compile(r"(?:\d/\d\) )?(?:-\()?\d+ [+*-] \d\d+\)?: ")


def weigh(reply: str) -> list[float]:
    """The weights of a whole reply."""
    if reply == REFUSAL:
        return [DECISION] * 4 + [_SENTENCE] * (len(reply) - 4)
    weights: list[float] = []
    *lines, last = reply.split("\n")
    for line in lines:
        weights += [*weigh_line(line), TEXT]
    weights += [END] * len(last)
    weights[0] = DECISION
    if reply[1:2] == "/":  # how many lines there will be
        weights[2] = DECISION
    return weights


def weigh_line(line: str) -> list[float]:
    """The weights of one line of work."""
    weights = [DIGIT if char.isdigit() else TEXT for char in line]
    if match := _HEAD.match(line):
        weights[match.start() : match.end()] = [HEAD] * (match.end() - match.start())
    start = match.end() if match else 0
    if line.startswith(SWAPPED):
        weights[: len(SWAPPED)] = [DECISION] * len(SWAPPED)
    for column in _COLUMN.finditer(line, start):
        if column[5]:
            weights[column.start(5)] = CARRY
        if column[2]:  # a borrow
            weights[column.start(2)] = CARRY
        if column[7]:  # a carry
            weights[column.start(6)], weights[column.start(7)] = CARRY, FACT
        else:
            weights[column.start(6)] = FACT
    for fact in _FACT.finditer(line, start):
        weights[fact.start(1) : fact.end(1)] = [FACT] * 2
    return weights
