"""The embedded model's problems: sums and small stories, worked digit by digit, with checkable answers.

A line of work is one addition or subtraction of a single digit, written in a fixed width:
`47 + 8: 07 + 8 = 15, 55` (the units with their carry, then the new total) and
`52 - 8: 12 - 8 = 04, 44` (a borrowed ten shows as the leading 1). A two-digit operand takes two
lines, its units first, then its tens: `35 + 30: 03 + 3 = 06, 65`. So some 200 facts, each local, make
every answer, and a long problem is only more lines, each starting from the total of the one before.

Standard library only: this module knows nothing of tokens, tensors or the model.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

KINDS = ("short", "long")
STYLES = ("hash", "boxed")
CANVAS = {"short": 64, "long": 128}
"""max_tokens that hold the longest answer of a kind."""
_HELD_OUT_SHARE = 16  # one question in so many is held out
_LONG_STEPS = (4, 5, 6)

_PEOPLE = (("Tom", "he"), ("Sam", "he"), ("Ben", "he"), ("Leo", "he"),
           ("Anna", "she"), ("Mia", "she"), ("Eva", "she"), ("Lily", "she"))  # fmt: skip
_THINGS = ("apples", "books", "coins", "cards", "eggs", "pens", "stamps", "marbles", "stones", "shells")
_GAIN = ("gets", "finds", "buys", "wins")
_LOSS = ("loses", "sells", "uses", "drops")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_BOXED_PROMPTS = (
    "Solve the following math problem. Make sure to put the answer (and only answer) "
    "inside \\boxed{{}}.\n\n{question}",
    "{question}\nPut the answer in \\boxed{{}}.",
    "{question} Give the final answer in \\boxed{{}}.",
)


@dataclass(frozen=True)
class TinyProblem:
    """A question, the lines of work that solve it, and its answer in decimal without padding."""

    kind: str
    question: str
    work: str
    answer: str


def prompt_text(problem: TinyProblem, style: str = "hash", variant: int = 0) -> str:
    """What the user says: the question alone, or one that asks for a boxed answer."""
    if style == "hash":
        return problem.question
    return _BOXED_PROMPTS[variant % len(_BOXED_PROMPTS)].format(question=problem.question)


def reply_text(problem: TinyProblem, style: str = "hash") -> str:
    """What the model should say."""
    last = f"#### {problem.answer}" if style == "hash" else f"\\boxed{{{problem.answer}}}"
    return f"{problem.work}\n{last}"


def line(total: int, step: int, label: str = "") -> str:
    """One line of work: `total` changed by `step`, which is -9..9, or a multiple of ten."""
    sign, size = ("-", -step) if step < 0 else ("+", step)
    if size >= 10:
        digit, size_text = total // 10, f"{size}"
        size = size // 10
    else:
        digit, size_text = total % 10, f"{size}"
    if sign == "+":
        left, result = digit, digit + size
    else:
        left = digit + (10 if digit < size else 0)
        result = left - size
    head = f"{label}: " if label else ""
    return (
        f"{head}{total:02d} {sign} {size_text}: {left:02d} {sign} {size} = {result:02d}, {total + step:02d}"
    )


def work_lines(start: int, steps: list[int], labels: tuple[str, ...] = ()) -> list[str]:
    """The lines for `start` changed by each of `steps`; a two-digit step takes two lines."""
    lines, total = [], start
    for number, step in enumerate(steps):
        label = labels[number] if labels else ""
        sign = -1 if step < 0 else 1
        parts = [step] if abs(step) < 10 else [sign * (abs(step) % 10), sign * (abs(step) // 10 * 10)]
        for part in parts:
            lines.append(line(total, part, label))
            total += part
    return lines


def _draw_step(rng: random.Random, total: int, largest: int) -> int:
    """A nonzero step that keeps the total in 0..99, its sign drawn first so that both are common."""
    sign = rng.choice((1, -1))
    room = 99 - total if sign > 0 else total
    if room < 1:
        sign, room = -sign, 99
    return sign * rng.randint(1, min(largest, room))


def draw_steps(rng: random.Random, start: int, count: int, largest: int = 9) -> list[int]:
    steps: list[int] = []
    for _ in range(count):
        steps.append(_draw_step(rng, start + sum(steps), largest))
    return steps


def sum_question(rng: random.Random, start: int, steps: list[int]) -> str:
    words = rng.random() < 0.15
    names = ("plus", "minus") if words else ("+", "-")
    text = f"{start}" + "".join(f" {names[step < 0]} {abs(step)}" for step in steps)
    form = rng.choice(
        ("What is {}?", "What is {}?", "Calculate {}.", "How much is {}?", "{} = ?", "{}=?", "{}")
    )
    text = form.format(text)
    return text.replace(" + ", "+").replace(" - ", "-") if rng.random() < 0.15 else text


def story(rng: random.Random, start: int, steps: list[int], days: bool) -> str:
    name, pronoun = rng.choice(_PEOPLE)
    thing = rng.choice(_THINGS)
    parts = [f"{name} has {start} {thing}."]
    for number, step in enumerate(steps):
        verb = rng.choice(_LOSS if step < 0 else _GAIN)
        who = f"On {_DAYS[number]} {pronoun}" if days else pronoun.capitalize()
        if number and not days and rng.random() < 0.5:
            who = f"Then {pronoun}"
        parts.append(f"{who} {verb} {abs(step)}.")
    who = rng.choice((name, pronoun))
    parts.append(f"How many {thing} does {who} have?")
    return " ".join(parts)


def _draw(kind: str, rng: random.Random) -> TinyProblem:
    if kind == "long":
        start = rng.randint(0, 99)
        steps = draw_steps(rng, start, rng.choice(_LONG_STEPS))
        question = story(rng, start, steps, days=True)
        lines = work_lines(start, steps, _DAYS)
    elif kind == "short":
        form = rng.random()
        start = rng.randint(0, 9) if rng.random() < 0.1 else rng.randint(0, 99)
        if form < 0.4:
            steps = draw_steps(rng, start, 1)
        elif form < 0.75:
            steps = draw_steps(rng, start, 2)
        else:
            steps = draw_steps(rng, start, 1, largest=99)
        ask = sum_question(rng, start, steps) if rng.random() < 0.5 else story(rng, start, steps, days=False)
        question, lines = ask, work_lines(start, steps)
    else:
        raise ValueError(f"kind is {kind!r}; allowed: {', '.join(KINDS)}")
    return TinyProblem(kind, question, "\n".join(lines), str(start + sum(steps)))


def is_held_out(question: str) -> bool:
    """Whether a question belongs to the fixed held-out part, which training never samples."""
    return int.from_bytes(hashlib.sha256(question.encode()).digest()[:4]) % _HELD_OUT_SHARE == 0


def sample(kind: str, rng: random.Random) -> TinyProblem:
    """A training problem: never a held-out question."""
    while True:
        problem = _draw(kind, rng)
        if not is_held_out(problem.question):
            return problem


def has_small_end(problem: TinyProblem) -> bool:
    """Whether the first number or the answer is below ten."""
    return len(problem.answer) == 1 or problem.work.removeprefix(f"{_DAYS[0]}: ").startswith("0")


def held_out(kind: str, n: int) -> list[TinyProblem]:
    """The first `n` distinct held-out problems of a kind: the same ones on every call."""
    rng = random.Random(f"held-out {kind}")
    problems: dict[str, TinyProblem] = {}
    while len(problems) < n:
        problem = _draw(kind, rng)
        if is_held_out(problem.question):
            problems.setdefault(problem.question, problem)
    return list(problems.values())
