"""Problems in a file of JSON lines, for benchmarks and evaluations alike.

    {"problem": "What is 47 + 8?", "expected_answer": 55, "id": "a", "max_tokens": 64}
    {"messages": [{"role": "user", "content": "What is 47 + 8?"}]}

"problem" may be called "question" or "prompt"; all but it (or "messages") may be left out, as far as
the reader of the problems does without; other fields are passed over. Knows files; nothing of how a problem
is asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llada_exp import jsonl

QUESTIONS = ("problem", "question", "prompt")


@dataclass(frozen=True)
class FileProblem:
    """place: FILE:LINE, for messages; question: None where `messages` are given, which go before it; id: None
    where the file gives none; max_tokens: of the answer."""

    place: str
    question: str | None
    messages: tuple[Mapping[str, Any], ...]
    expected: str | None
    id: str | None
    max_tokens: int | None


def read_problems(path: Path) -> Iterator[FileProblem]:
    """As they are read. Raises ValueError naming file, line and field, and OSError where there is no file."""
    for line in jsonl.lines(path):
        try:
            problem = _problem(line)
        except ValueError as error:
            raise ValueError(f"{line.place}: {error}") from None
        yield problem


def _problem(line: jsonl.Line) -> FileProblem:
    tree = {name: value for name, value in line.tree.items() if value is not None}
    messages = _messages(tree["messages"]) if "messages" in tree else ()
    name = next((name for name in QUESTIONS if name in tree), None)
    if not messages and name is None:
        names = ", ".join(line.tree) or "nothing"
        raise ValueError(f'"problem" (or "question", "prompt", "messages") is missing; found {names}')
    question = None if messages else tree[str(name)]
    if question is not None and not isinstance(question, str):
        raise ValueError(f'"{name}" is {question!r}; expected a text')
    expected, number = tree.get("expected_answer"), tree.get("max_tokens")
    if not _is_answer(expected):
        raise ValueError(
            f'"expected_answer" is {expected!r}; expected a text or a number, not empty or infinite'
        )
    if isinstance(tree.get("id"), dict | list | bool):
        raise ValueError(f'"id" is {tree["id"]!r}; expected a text or a number')
    if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
        raise ValueError(f'"max_tokens" is {number!r}; expected an integer >= 1')
    return FileProblem(
        place=line.place,
        question=question,
        messages=messages,
        expected=None if expected is None else str(expected),
        id=str(tree["id"]) if "id" in tree else None,
        max_tokens=number,
    )


def _is_answer(value: Any) -> bool:
    """Whether a response may be right by it; None: there is none."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or (isinstance(value, str) and bool(value.strip())) or type(value) is int


def _messages(value: Any) -> tuple[Mapping[str, Any], ...]:
    good = isinstance(value, list) and value
    if not good or not all(isinstance(m, dict) and m.keys() >= {"role", "content"} for m in value):
        raise ValueError(f'"messages" is {value!r}; expected [{{"role": ..., "content": ...}}, ...]')
    return tuple(value)
