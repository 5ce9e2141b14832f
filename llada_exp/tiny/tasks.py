"""The embedded model's problems: what is asked, the work that answers it, and what is held out.

Kinds: sums, differences, products (one operation), chains (numbers in a row), stories (of one to three
steps), long (stories of three to six), refusals (anything else), and short, a mix of what needs one
operation.
`work.py` has the lines, `domain.py` what can be asked, in words.

Standard library only: this module knows nothing of tokens, tensors or the model.
"""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass

from llada_exp.domain import REFUSAL
from llada_exp.tiny import refusals, stories, wordings
from llada_exp.tiny.work import LARGEST, chain_lines, product_lines

PARTS = ("sums", "differences", "products", "chains", "stories", "long", "refusals")
KINDS = ("short", *PARTS)
MIXES = ("short", "long")
"""Of them, what benchmarks and workloads are made of: every answer a number."""
STYLES = ("hash", "boxed")
CANVAS = {
    "short": 96, "sums": 64, "differences": 96, "products": 64, "refusals": 64, "stories": 128, "chains": 256,
    "long": 256,
}  # fmt: skip
"""max_tokens that hold the longest answer of a kind."""
FRAMES = {
    "hash": (
        "{question}", "Question: {question}\nAnswer:", "Q: {question}\nA:",
        "Problem:\n{question}\n\nSolution:",
        "Answer the following question.\n\n{question}", "Solve the following math problem.\n\n{question}",
        "{question}\nAnswer:", "Question: {question}\n\nAnswer:",
    ),
    "boxed": (
        "Solve the following math problem. Make sure to put the answer (and only answer) inside "
        "\\boxed{{}}.\n\n{question}",
        "{question}\nPut the answer in \\boxed{{}}.",
        "{question} Give the final answer in \\boxed{{}}.",
        "{question}\nPlease reason step by step, and put your final answer within \\boxed{{}}.",
        "Put your final answer in \\boxed{{}}.\n\n{question}",
    ),
}  # fmt: skip
"""By style, what harnesses put around a question; the first is the plainest."""
_HELD_OUT_SHARE = 16  # one question in so many is held out
_NEAR_SHARE = 0.08
_SHORT = ("sums", "differences", "products", "stories")


@dataclass(frozen=True)
class TinyProblem:
    """A question, the lines of work that solve it, and its answer in decimal without padding. Of a refusal,
    both work and answer are empty. earlier: questions and replies of the same chat, the oldest first."""

    kind: str
    question: str
    work: str
    answer: str
    earlier: tuple[tuple[str, str], ...] = ()

    @property
    def refused(self) -> bool:
        return not self.work


def prompt_text(problem: TinyProblem, style: str = "hash", variant: int = 0) -> str:
    """What the user says: the question alone, or in a frame that a harness puts around it."""
    frames = FRAMES[style]
    return frames[variant % len(frames)].format(question=problem.question)


def messages(problem: TinyProblem, style: str = "hash", variant: int = 0) -> list[dict[str, str]]:
    """The chat, as a client sends it."""
    turns = [*problem.earlier, (prompt_text(problem, style, variant), "")]
    both = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    return both[:-1]


def reply_text(problem: TinyProblem, style: str = "hash") -> str:
    """What the model should say."""
    if problem.refused:
        return REFUSAL
    last = f"#### {problem.answer}" if style == "hash" else f"\\boxed{{{problem.answer}}}"
    return f"{problem.work}\n{last}"


def draw_pair(rng: random.Random) -> tuple[int, int]:
    """Two numbers of 0 to 999, small ones often, and more often near one another than by chance: which of
    those is the larger hangs on the last digit."""
    if rng.random() < _NEAR_SHARE:
        return draw_near(rng)
    how = rng.random()
    limits = (9, 9) if how < 0.08 else (99, 9) if how < 0.2 else (99, 99) if how < 0.55 else (999, 999)
    if how >= 0.85:
        limits = (999, rng.choice((9, 99)))
    pair = [draw_number(rng, limit) for limit in limits]
    rng.shuffle(pair)
    return pair[0], pair[1]


def draw_near(rng: random.Random) -> tuple[int, int]:
    """Two numbers of 0 to 999 that are 0 to 12 apart, seldom equal."""
    first = draw_number(rng, rng.choice((9, 99, 999)))
    apart = rng.choice((-1, 1)) * rng.randint(rng.random() > 0.1, rng.choice((1, 2, 9, 12)))
    return first, first + apart if 0 <= first + apart <= LARGEST else first - apart


def draw_number(rng: random.Random, limit: int) -> int:
    """0 to limit, all alike, but round numbers and nines more often."""
    if limit > 9 and rng.random() < 0.08:
        step = rng.choice((10, 100) if limit > 99 else (10,))
        return max(0, rng.randint(0, limit // step) * step - rng.choice((0, 0, 1)))
    return rng.randint(0, limit)


def draw_steps(rng: random.Random, start: int, count: int, largest: int = 9, limit: int = 99) -> list[int]:
    """Steps of 1 to largest, up or down, that keep every total in 0 to limit."""
    steps: list[int] = []
    for _ in range(count):
        total = start + sum(steps)
        sign = rng.choice((1, -1))
        room = limit - total if sign > 0 else total
        if room < 1:
            sign, room = -sign, limit
        steps.append(sign * rng.randint(1, min(largest, room)))
    return steps


def _draw_chain(rng: random.Random, count: int) -> tuple[int, list[int]]:
    how = rng.random()
    if count > 2 and how < 0.06:  # one number again and again
        step = rng.randint(1, rng.choice((9, 20, 99)))
        return step, [step] * count
    largest, limit = (9, 99) if how < 0.25 else (99, 99) if how < 0.6 else (99, LARGEST)
    if how > 0.85:
        largest = LARGEST
    start = rng.randint(0, min(limit, rng.choice((99, 99, LARGEST)) if how > 0.7 else 99))
    return start, draw_steps(rng, start, count, largest, limit)


def _draw_list(rng: random.Random, count: int) -> list[int]:
    """Numbers whose total is at most the largest."""
    limits = (9, 99, LARGEST // count, LARGEST)
    while True:
        numbers = [draw_number(rng, min(LARGEST // count, limit)) for limit in rng.choices(limits, k=count)]
        numbers[rng.randrange(count)] = draw_number(rng, rng.choice(limits))
        if sum(numbers) <= LARGEST:
            return numbers


def draw(kind: str, rng: random.Random) -> TinyProblem:
    """A problem, held out or not. Beside KINDS there are `near` and `too_many`, which the trainer adds:
    differences of near numbers, below zero most often, and refusals of more steps than are worked."""
    if kind == "short":
        part = rng.choices(_SHORT, (0.35, 0.35, 0.15, 0.15))[0]
        return _one_step_story(rng) if part == "stories" else draw(part, rng)
    if kind in ("sums", "differences"):
        first, second = draw_pair(rng)
        if kind == "differences" and (first < second) == (rng.random() < 0.75):
            first, second = second, first
        return two_numbers(rng, first, second if kind == "sums" else -second, kind)
    if kind == "products":
        digit, number = rng.randint(0, 9), draw_number(rng, 9 if rng.random() < 0.12 else 99)
        pair = [digit, number]
        rng.shuffle(pair)
        story = rng.random() < 0.12 and min(pair) > 1
        ask = stories.product_story(rng, *pair) if story else wordings.sentence(rng, pair, ["*"])
        if number <= 9:
            digit, number = pair  # in the order in which they are asked
        return TinyProblem(
            kind, _finished(rng, ask), "\n".join(product_lines(digit, number)), str(digit * number)
        )
    if kind == "chains":
        count = rng.choices((2, 3, 4, 5, 6), (25, 25, 20, 15, 15))[0]
        if rng.random() < 0.1:
            numbers = _draw_list(rng, count + 1)
            return _problem(rng, kind, wordings.listed(rng, numbers), numbers[0], numbers[1:])
        start, steps = _draw_chain(rng, count)
        if rng.random() < 0.3:
            return _problem(rng, kind, wordings.steps_in_words(rng, start, steps), start, steps)
        signs = ["-" if step < 0 else "+" for step in steps]
        return _problem(rng, kind, wordings.sentence(rng, [start, *map(abs, steps)], signs), start, steps)
    if kind == "stories":
        if rng.random() < 0.4:
            return _one_step_story(rng)
        start, steps = _draw_chain(rng, rng.choice((2, 2, 3)))
        return _problem(rng, kind, stories.story(rng, start, steps, days=False), start, steps)
    if kind == "long":
        start, steps = _draw_chain(rng, rng.choice((3, 4, 4, 5, 6)))
        return _problem(rng, kind, stories.story(rng, start, steps, days=rng.random() < 0.7), start, steps)
    if kind == "near":
        first, second = sorted(draw_near(rng), reverse=rng.random() < 0.3)
        return two_numbers(rng, first, -second, "differences")
    if kind in ("refusals", "too_many"):
        text = refusals.draw(rng) if kind == "refusals" else refusals.too_many(rng)
        return TinyProblem("refusals", wordings.cased(rng, text), "", "")
    raise ValueError(f"kind is {kind!r}; allowed: {', '.join(KINDS)}")


def _one_step_story(rng: random.Random) -> TinyProblem:
    first, second = draw_pair(rng)
    second = max(1, second)
    step = second if first < second or rng.random() < 0.5 else -second
    return _problem(rng, "stories", stories.story(rng, first, [step], days=False), first, [step])


def _problem(
    rng: random.Random, kind: str, question: str, start: int, steps: list[int], minus: bool = False
) -> TinyProblem:
    work = "\n".join(chain_lines(start, steps, minus))
    return TinyProblem(kind, _finished(rng, question), work, str(start + sum(steps)))


def _finished(rng: random.Random, question: str) -> str:
    return wordings.cased(rng, wordings.decorated(rng, question))


def two_numbers(rng: random.Random, first: int, step: int, kind: str = "sums") -> TinyProblem:
    """A sum or a difference in any wording. step: what `first` is changed by; a 0 is taken away in
    "differences"."""
    minus = step < 0 or kind == "differences"
    question = wordings.sentence(rng, [first, abs(step)], ["-" if minus else "+"])
    return _problem(rng, kind, question, first, [step], minus)


def plain_question(first: int, step: int, kind: str = "sums") -> TinyProblem:
    """`What is 53 + 18?`"""
    question = f"What is {first} {'-' if step < 0 else '+'} {abs(step)}?"
    return TinyProblem(kind, question, "\n".join(chain_lines(first, [step])), str(first + step))


def is_held_out(question: str) -> bool:
    """Whether a question belongs to the fixed held-out part, which training never samples. What counts are
    its numbers, in any order, so that no wording of it is trained on. Of a text without any, and of one with
    two digits at most, its words: those numbers are few, and a model that never saw `4 - 3` fails what people
    ask first."""
    numbers = sorted(re.findall(r"\d+", question))
    few = len("".join(numbers)) <= 2
    key = " ".join(question.lower().split()) if few else " ".join(numbers)
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) % _HELD_OUT_SHARE == 0


def sample(kind: str, rng: random.Random) -> TinyProblem:
    """A training problem: never a held-out question."""
    while True:
        problem = draw(kind, rng)
        if not is_held_out(problem.question):
            return problem


def held_out(kind: str, n: int) -> list[TinyProblem]:
    """The first `n` distinct held-out problems of a kind: the same ones on every call."""
    rng = random.Random(f"held-out {kind}")
    problems: dict[str, TinyProblem] = {}
    while len(problems) < n:
        problem = draw(kind, rng)
        if is_held_out(problem.question):
            problems.setdefault(problem.question, problem)
    return list(problems.values())
