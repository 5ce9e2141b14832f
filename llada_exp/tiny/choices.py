"""Held-out problems as multiple choice, for tasks that compare likelihoods: conf/lm_eval/tiny_choice.jsonl.

    python -m llada_exp.tiny.choices -n 64 > conf/lm_eval/tiny_choice.jsonl

Every choice is a reply without a fault in itself; the wrong ones take another last step than the question
says. Choices end with the end of turn, as replies do: the model never saw a reply that just stops. Standard
library only.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from typing import Any

from llada_exp.tiny.tasks import MIXES, TinyProblem, held_out, reply_text
from llada_exp.tiny.work import LARGEST, SWAPPED, sum_line

NUM_CHOICES = 4
END = "<|eot_id|>"
_LINE = re.compile(r"(?P<label>\d/\d\) )?(?P<total>\d+) (?P<sign>[+-]) (?P<size>\d+)")


def choice_problem(problem: TinyProblem) -> dict[str, Any]:
    """{question, choices, answer, number}: answer is the right choice's place, number what it comes to. The
    same on every call."""
    *before, last = problem.work.split("\n")
    if last.startswith(SWAPPED):
        last = before.pop()
    match = _LINE.match(last)
    assert match is not None, last
    total, size, width = int(match["total"]), int(match["size"]), len(match["size"])
    change = size if match["sign"] == "+" else -size
    low, high = min(0, total + change), max(LARGEST, total + change)
    steps = [
        step
        for other in range(10 ** len(str(size)))
        for step in (other, -other)
        if step not in (0, change) and len(str(other)) == len(str(size)) and low <= total + step <= high
    ]
    rng = random.Random(f"choices {problem.question}")
    rng.shuffle(steps)
    wrong = sorted(steps, key=lambda step: (step > 0) != (change > 0))[: NUM_CHOICES - 1]  # same sign first

    def reply(step: int) -> str:
        line = sum_line(total, step, width, match["sign"] == "-")
        work = "\n".join([*before, (match["label"] or "") + line])
        return reply_text(TinyProblem(problem.kind, problem.question, work, str(total + step))) + END

    choices = [reply(step) for step in (change, *wrong)]
    rng.shuffle(choices)
    return {
        "question": problem.question,
        "choices": choices,
        "answer": choices.index(reply(change)),
        "number": problem.answer,
    }


def problems(kind: str, n: int) -> list[TinyProblem]:
    """The first `n` held-out problems of a kind whose last step can be another one: no products."""
    return [problem for problem in held_out(kind, 2 * n + 8) if " * " not in problem.work][:n]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m llada_exp.tiny.choices", description="Held-out problems as multiple choice."
    )
    parser.add_argument("-n", type=int, default=64, help="problems (default 64)")
    parser.add_argument("--kind", choices=MIXES, default="short")
    args = parser.parse_args(argv)
    for problem in problems(args.kind, args.n):
        print(json.dumps(choice_problem(problem)))


if __name__ == "__main__":
    main()
