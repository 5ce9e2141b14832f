"""The check's questions, and what it makes of the answers. Standard library only; knows no server."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEAST_RIGHT = 0.75
"""Of the embedded model's sums: it has nearly all of them right."""


@dataclass(frozen=True)
class CheckedAnswer:
    """number: of its question; cut_off: it ended at max_tokens."""

    text: str
    tokens: int
    seconds: float
    body: Mapping[str, Any]
    number: int = 0
    cut_off: bool = False

    @property
    def is_right(self) -> bool:
        """The last number of its text is the sum."""
        numbers = re.findall(r"\d[\d,]*", self.text)
        return bool(numbers) and numbers[-1].replace(",", "") == str(expected(self.number))

    def mark(self) -> str:
        """Behind its text; empty where it is right."""
        if self.is_right:
            return ""
        return f"  WRONG: {expected(self.number)}{' (cut off at max_tokens)' if self.cut_off else ''}"


def question(i: int) -> str:
    """A number below 100 and one below 10, which any model that answers sums can add."""
    return "What is {} + {}?".format(*_operands(i))


def expected(i: int) -> int:
    """The sum that `question` asks for."""
    return sum(_operands(i))


def _operands(i: int) -> tuple[int, int]:
    return 10 + (37 + 3 * i) % 90, 1 + (7 + 5 * i) % 9


def judge(answers: Sequence[CheckedAnswer], is_embedded: bool) -> tuple[str, bool]:
    """How many sums are right, and what that means; and whether it is the server's fault. is_embedded: the
    answers are of the embedded model."""
    num_right = sum(answer.is_right for answer in answers)
    words = f"{num_right} of {len(answers)} sums right"
    num_cut_off = sum(answer.cut_off and not answer.is_right for answer in answers)
    if num_cut_off:
        words += f", {num_cut_off} cut off at --max-tokens"
    if num_right == len(answers):
        return words, False
    if is_embedded:
        if num_cut_off == 0 and num_right < LEAST_RIGHT * len(answers):
            return f"{words}: the embedded model knows them; its weights or its decoding are not right", True
        return f"{words}; the embedded model has nearly all of them right", False
    return (
        f"{words}; whether this model should know them is not known here: no fault of the server by itself",
        False,
    )
