"""The strata: kinds of held-out problems that the gate judges one by one, each with a margin of its own.

A mix hides what is lost in one of its parts, and the first thing a newcomer asks is a sum of two digits. So
each kind is drawn by itself, over the whole of the domain (domain.py), and a setting passes where it
passes in each.

Knows the embedded model's texts; no engine and no verdict.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from llada_exp.tiny import conversations, tasks
from llada_exp.tiny.tasks import TinyProblem

MAX_MISSES = 100_000
"""Draws in a row that bring no new problem: then there are no more."""
_LONG_CHATS = 0.3


@dataclass(frozen=True)
class Stratum:
    """meaning: for people. margin: points of accuracy that may be lost. enough: problems that show it, also
    where one is lost. draw: a problem, held out or not; None of the trainer's own kinds. canvas: max_tokens
    that just hold the longest answer."""

    meaning: str
    margin: float
    enough: int
    draw: Callable[[random.Random], TinyProblem] | None = None
    canvas: int = tasks.CANVAS["short"]


def problems(kind: str, n: int) -> list[TinyProblem]:
    """The first `n` distinct held-out problems of a kind: the same ones on every call. Raises ValueError for
    a kind that there is not, and where it has fewer."""
    if kind not in STRATA:
        raise ValueError(f"kinds holds {kind!r}; expected {', '.join(STRATA)}")
    draw = STRATA[kind].draw
    if draw is None:
        return tasks.held_out(kind, n)
    rng, misses = random.Random(f"held-out {kind}"), 0
    drawn: dict[str, TinyProblem] = {}
    while len(drawn) < n:
        problem = draw(rng)
        misses += 1
        if problem.question not in drawn and tasks.is_held_out(problem.question):
            drawn[problem.question], misses = problem, 0
        if misses > MAX_MISSES:
            raise ValueError(f"num_problems is {n}; of {kind} there are {len(drawn)} held out")
    return list(drawn.values())


def _follow_up(rng: random.Random) -> TinyProblem:
    kind = rng.choices(("sums", "differences", "products", "refusals"), (3, 3, 2, 2))[0]
    turns = tuple(conversations.earlier(rng, "hash", many=rng.random() < _LONG_CHATS))
    return replace(tasks.draw(kind, rng), kind="follow_ups", earlier=turns)


def _readme(rng: random.Random) -> TinyProblem:
    first, second = tasks.draw_pair(rng)
    return tasks.plain_question(first, second if rng.random() < 0.5 else -second, "readme")


def _two_digits(rng: random.Random, kind: str) -> TinyProblem:
    """Both numbers from 10 to 99, whose units carry or borrow, or do not."""
    while True:
        first, step = rng.randint(10, 99), rng.choice((1, -1)) * rng.randint(10, 99)
        if first + step < 0:
            continue
        units = first % 10 + (step % 10 if step > 0 else -(-step % 10))
        if (not 0 <= units <= 9) == (kind == "carry"):
            return tasks.two_numbers(rng, first, step, kind)


def _three_digits(rng: random.Random) -> TinyProblem:
    step = rng.choice((1, -1)) * rng.randint(100, 999)
    return tasks.two_numbers(rng, rng.randint(100, 999), step, "three_digits")


def _near(rng: random.Random) -> TinyProblem:
    """A difference whose numbers are 1 to 9 apart, either way: which is larger hangs on the last digits."""
    first = rng.randint(0, rng.choice((9, 99, 999)))
    second = first + rng.choice((1, -1)) * rng.randint(1, 9)
    return tasks.two_numbers(rng, first, -second, "near") if 1 <= second <= 999 else _near(rng)


STRATA: Mapping[str, Stratum] = {
    "readme": Stratum("the README's own question, `What is 47 + 8?`, or a difference so", 1.0, 600, _readme),
    "sums": Stratum("a sum of two numbers in any wording", 1.0, 1200),
    "differences": Stratum("a difference of two numbers in any wording", 1.0, 1200),
    "carry": Stratum(
        "two numbers of two digits, whose units carry or borrow", 2.0, 600,
        lambda rng: _two_digits(rng, "carry")
    ),
    "no_carry": Stratum(
        "two numbers of two digits, whose units do neither", 2.0, 600,
        lambda rng: _two_digits(rng, "no_carry")
    ),
    "three_digits": Stratum("two numbers of three digits", 2.0, 600, _three_digits),
    "near": Stratum("a difference of two numbers that are 1 to 9 apart", 2.0, 600, _near),
    "products": Stratum("a product of a digit and a number to 99", 2.0, 600, canvas=tasks.CANVAS["products"]),
    "chains": Stratum("numbers in a row, two to six steps", 2.0, 600, canvas=tasks.CANVAS["chains"]),
    "stories": Stratum("a story of one to three steps", 2.0, 600, canvas=tasks.CANVAS["stories"]),
    "long": Stratum("a story of three to six steps", 2.0, 600, canvas=tasks.CANVAS["long"]),
    "refusals": Stratum("anything else, to be refused", 2.0, 600, canvas=tasks.CANVAS["refusals"]),
    "follow_ups": Stratum(
        "one operation, or what is to be refused, after 1 to 40 others of the same chat", 2.0, 600,
        _follow_up
    ),
    "short": Stratum("a mix of what needs one operation", 2.0, 600),
}  # fmt: skip
"""By name. `short` is a mix, which the forms leave out."""
