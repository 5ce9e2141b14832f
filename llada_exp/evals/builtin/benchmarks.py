"""The builtin harness's problems: the embedded model's held-out ones, and any JSON lines file.

    tiny_short, tiny_long          of llada_exp.tiny.tasks; training never saw them
    path/to/file.jsonl             {"problem": ..., "expected_answer": ..., "id": ...} a line

Knows files and the embedded model's tasks; no server and no scoring.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llada_exp.problems import FileProblem, read_problems
from llada_exp.tiny import tasks

NUM_TINY = 500
TINY = {f"tiny_{kind}": kind for kind in tasks.MIXES}
PROMPTS = {
    "plain": "{problem}",
    "boxed": "Solve the following math problem. Make sure to put the answer (and only answer) inside "
    "\\boxed{}.\n\n{problem}",
}
"""Named prompts. `boxed` asks as NeMo-Skills' generic/math does."""


@dataclass(frozen=True)
class Problem:
    """id: within its benchmark; question: as it stands in the file; fields: of the request's body."""

    benchmark: str
    id: str
    question: str
    expected: str | None
    fields: Mapping[str, Any] = field(default_factory=dict)


def is_builtin(name: str) -> bool:
    return name in TINY or name.endswith(".jsonl")


def benchmark_name(name: str) -> str:
    """As rows have it: a file's own name."""
    return Path(name).stem if name.endswith(".jsonl") else name


def load(name: str, num: int | None = None) -> list[Problem]:
    """The first `num` problems of a benchmark, all of them for None (of the tiny ones, 500).

    Raises ValueError that names the benchmark, or the line of its file at fault.
    """
    if name in TINY:
        problems_of_kind = tasks.held_out(TINY[name], num or NUM_TINY)
        fields = {"max_tokens": tasks.CANVAS[TINY[name]]}
        return [Problem(name, str(i), p.question, p.answer, fields) for i, p in enumerate(problems_of_kind)]
    if not name.endswith(".jsonl"):
        raise ValueError(f"benchmark is {name!r}; expected {', '.join(TINY)} or a .jsonl file")
    path = Path(name).expanduser()
    if not path.is_file():
        raise ValueError(f"benchmark is {name!r}; there is no such file")
    problems: dict[str, Problem] = {}
    for line in itertools.islice(read_problems(path), num):
        problem = _from_file(benchmark_name(name), line, len(problems))
        if problem.id in problems:
            raise ValueError(f'{line.place}: "id" {problem.id!r} was there before')
        problems[problem.id] = problem
    if not problems:
        raise ValueError(f"benchmark is {name!r}; the file holds no problem")
    return list(problems.values())


def prompt_of(problem: Problem, prompt: str) -> str:
    """What the model reads. prompt: a name of PROMPTS, or a text with {problem} in it."""
    return PROMPTS.get(prompt, prompt).replace("{problem}", problem.question)


def check_prompt(prompt: Any) -> str:
    if not isinstance(prompt, str) or (prompt not in PROMPTS and "{problem}" not in prompt):
        raise ValueError(
            f"prompt is {prompt!r}; expected {', '.join(PROMPTS)}, or a text that holds {{problem}}"
        )
    return prompt


def _from_file(benchmark: str, line: FileProblem, place: int) -> Problem:
    if line.question is None:
        raise ValueError(f'{line.place}: "messages" are for llada_exp.bench; expected "problem", a text')
    if line.expected is None:
        raise ValueError(f'{line.place}: "expected_answer" is missing; expected a text or a number')
    fields = {} if line.max_tokens is None else {"max_tokens": line.max_tokens}
    name = str(place) if line.id is None else line.id
    return Problem(benchmark, name, line.question, line.expected, fields)
