"""The strata: kinds of held-out problems that the gate judges one by one, each with a margin of its own.

A mix hides what is lost in one of its parts: of the trainer's `short` problems one in seven has a step of
tens, and the first thing a newcomer asks is such a sum. So each kind is drawn by itself, over the whole of
today's domain (totals 0 to 99), and a setting passes where it passes in each.

Knows the embedded model's texts; no engine and no verdict.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llada_exp.tiny import tasks
from llada_exp.tiny.tasks import TinyProblem

MAX_MISSES = 100_000
"""Draws in a row that bring no new problem: then there are no more."""


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


def _operands(rng: random.Random, sign: int) -> tuple[int, int]:
    """A first number and a step that stay in 0 to 99, all alike."""
    while True:
        first, second = rng.randint(0, 99), rng.randint(1, 99)
        if 0 <= first + sign * second <= 99:
            return first, sign * second


def _two_digits(rng: random.Random, carries: bool) -> tuple[int, int]:
    """Both numbers from 10 on, whose units carry or borrow, or do not."""
    while True:
        first, step = _operands(rng, rng.choice((1, -1)))
        units = first % 10 + (abs(step) % 10 if step > 0 else -(abs(step) % 10))
        if first >= 10 and abs(step) >= 10 and (not 0 <= units <= 9) == carries:
            return first, step


def _readme(rng: random.Random) -> TinyProblem:
    first, step = _operands(rng, rng.choice((1, -1)))
    sign = "-" if step < 0 else "+"
    return _problem("readme", f"What is {first} {sign} {abs(step)}?", first, [step])


def _in_words(kind: str, rng: random.Random, first: int, step: int) -> TinyProblem:
    return _problem(kind, tasks.sum_question(rng, first, [step]), first, [step])


def _chain(rng: random.Random) -> TinyProblem:
    first = rng.randint(0, 99)
    steps = tasks.draw_steps(rng, first, 2)
    return _problem("chains", tasks.sum_question(rng, first, steps), first, steps)


def _story(rng: random.Random) -> TinyProblem:
    first = rng.randint(0, 99)
    form = rng.randrange(3)
    steps = tasks.draw_steps(rng, first, 2) if form == 2 else tasks.draw_steps(rng, first, 1, (9, 99)[form])
    return _problem("stories", tasks.story(rng, first, steps, days=False), first, steps)


def _problem(kind: str, question: str, first: int, steps: list[int]) -> TinyProblem:
    work = "\n".join(tasks.work_lines(first, steps))
    return TinyProblem(kind, question, work, str(first + sum(steps)))


STRATA: Mapping[str, Stratum] = {
    "readme": Stratum("the README's own question, `What is 47 + 8?`, or a difference so", 1.0, 600, _readme),
    "sums": Stratum(
        "a sum of two numbers in any wording", 1.0, 1200,
        lambda rng: _in_words("sums", rng, *_operands(rng, 1)),
    ),
    "differences": Stratum(
        "a difference of two numbers in any wording", 1.0, 1200,
        lambda rng: _in_words("differences", rng, *_operands(rng, -1)),
    ),
    "carry": Stratum(
        "two numbers of two digits, whose units carry or borrow", 2.0, 300,
        lambda rng: _in_words("carry", rng, *_two_digits(rng, True)),
    ),
    "no_carry": Stratum(
        "two numbers of two digits, whose units do neither", 2.0, 300,
        lambda rng: _in_words("no_carry", rng, *_two_digits(rng, False)),
    ),
    "chains": Stratum("a number and two steps of one digit", 2.0, 300, _chain),
    "stories": Stratum("a story of one step or two", 2.0, 300, _story),
    "long": Stratum("a story of four to six days", 2.0, 300, canvas=tasks.CANVAS["long"]),
    "short": Stratum("the trainer's mix of all but long", 2.0, 300),
}  # fmt: skip
"""By name. `short` is a mix, which the forms leave out."""
