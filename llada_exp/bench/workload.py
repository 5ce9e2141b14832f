"""What is asked: prompts of a kind, the same for a seed, and what their answers should be.

Knows no HTTP and no model: a prompt of exact length is a list of token ids, which the completion
endpoint takes as they are.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llada_exp.problems import FileProblem, read_problems
from llada_exp.tiny import tasks

NUM_TINY_PROBLEMS = 500


@dataclass(frozen=True)
class Prompt:
    """One request's content. messages or ids, one of them; fields: of the body, as the workload wants
    them; expected: the right answer, where one is known."""

    messages: tuple[Mapping[str, Any], ...] = ()
    ids: tuple[int, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    expected: str | None = None

    @property
    def path(self) -> str:
        return "/v1/chat/completions" if self.messages else "/v1/completions"

    @property
    def text(self) -> str:
        """What a person would read: "" for token ids."""
        return "\n".join(str(message["content"]) for message in self.messages)

    @property
    def content(self) -> dict[str, Any]:
        return {"messages": list(self.messages)} if self.messages else {"prompt": list(self.ids)}


def build(workload: Mapping[str, Any], num: int) -> Iterator[Prompt]:
    """`num` prompts; files and problem sets that are shorter start again.

    Raises ValueError that names the line of a file at fault.
    """
    makers = {"tiny": _tiny, "jsonl": _jsonl, "fixed": _fixed, "mixed": _mixed}
    return itertools.islice(makers[workload["kind"]](workload, num), num)


def _tiny(workload: Mapping[str, Any], num: int) -> Iterator[Prompt]:
    kind = workload["problems"]
    problems = tasks.held_out(kind, min(num, NUM_TINY_PROBLEMS))
    random.Random(workload["seed"]).shuffle(problems)
    for problem in itertools.cycle(problems):
        yield Prompt(
            messages=({"role": "user", "content": problem.question},),
            fields={"max_tokens": tasks.CANVAS[kind]},
            expected=problem.answer,
        )


def _jsonl(workload: Mapping[str, Any], num: int) -> Iterator[Prompt]:
    prompts = [_of_file(problem) for problem in read_problems(Path(workload["path"]))]
    if not prompts:
        raise ValueError(f"workload.path is {workload['path']!r}; it holds no line")
    random.Random(workload["seed"]).shuffle(prompts)
    return itertools.cycle(prompts)


def _of_file(problem: FileProblem) -> Prompt:
    messages = problem.messages or ({"role": "user", "content": problem.question},)
    fields = {} if problem.max_tokens is None else {"max_tokens": problem.max_tokens}
    return Prompt(messages, fields=fields, expected=problem.expected)


def _fixed(workload: Mapping[str, Any], num: int) -> Iterator[Prompt]:
    rng = random.Random(workload["seed"])
    while True:
        yield _of_lengths(rng, workload, workload["input_len"], workload["output_len"])


def _mixed(workload: Mapping[str, Any], num: int) -> Iterator[Prompt]:
    rng = random.Random(workload["seed"])
    while True:
        yield _of_lengths(rng, workload, _length(rng, workload, "input"), _length(rng, workload, "output"))


def _length(rng: random.Random, workload: Mapping[str, Any], part: str) -> int:
    drawn = rng.lognormvariate(math.log(workload[f"{part}_median"]), workload[f"{part}_sigma"])
    return max(1, min(round(drawn), workload[f"{part}_max"]))


def _of_lengths(rng: random.Random, workload: Mapping[str, Any], num_in: int, num_out: int) -> Prompt:
    low, high = workload["vocab"]
    ids = tuple(rng.randrange(low, high) for _ in range(num_in))
    return Prompt(ids=ids, fields={"max_tokens": num_out, "ignore_eos": True})
