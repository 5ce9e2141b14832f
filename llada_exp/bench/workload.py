"""What is asked: prompts of a kind, the same for a seed, and what their answers should be.

Knows no HTTP and no model: a prompt of exact length is a list of token ids, which the completion
endpoint takes as they are.
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llada_exp.tiny import tasks

NUM_TINY_PROBLEMS = 500


@dataclass(frozen=True)
class Prompt:
    """One request's content. messages or ids, one of them; fields: of the body, as the workload wants
    them; expected: the right answer, where one is known."""

    messages: tuple[Mapping[str, str], ...] = ()
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
    path = Path(workload["path"])
    lines = [(n, t) for n, t in enumerate(path.read_text().splitlines(), 1) if t.strip()]
    prompts = [_from_line(text, f"{path}, line {number}") for number, text in lines]
    if not prompts:
        raise ValueError(f"workload.path is {str(path)!r}; it holds no line")
    random.Random(workload["seed"]).shuffle(prompts)
    return itertools.cycle(prompts)


def _from_line(text: str, place: str) -> Prompt:
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{place}: not JSON ({error})") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{place}: expected an object with prompt, problem or messages")
    prompt = next((tree[k] for k in ("prompt", "problem", "question") if isinstance(tree.get(k), str)), None)
    messages = tree.get("messages") or (prompt and [{"role": "user", "content": prompt}])
    if not messages:
        raise ValueError(f"{place}: expected prompt, problem or messages; found {', '.join(tree)}")
    expected = tree.get("expected_answer")
    wanted = {"max_tokens": tree["max_tokens"]} if tree.get("max_tokens") else {}
    return Prompt(tuple(messages), fields=wanted, expected=None if expected is None else str(expected))


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
