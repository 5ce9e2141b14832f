"""What a harness brings back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llada_exp.evals.answers import FAILED, Answer


@dataclass(frozen=True)
class RequestCounts:
    """Of a benchmark without right and wrong: requests, those of them that failed, and those that were cut
    to fit the model's length."""

    num: int = 0
    failed: int = 0
    cut_to_fit: int = 0


@dataclass(frozen=True)
class HarnessResult:
    """model: name of what was asked; url: of an endpoint that can tell of itself, None where there was
    none; local: it was a server of our own; num_before: answers that an earlier start had brought; version:
    the harness's; metrics: its own, kept as they are; accuracies: benchmark -> what its accuracy is called,
    where that is not pass@1; groups: a benchmark of several -> their names, or those of groups; counts: of
    each benchmark that has metrics alone."""

    answers: list[Answer]
    model: str
    url: str | None
    local: bool
    num_before: int = 0
    version: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    accuracies: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    counts: Mapping[str, RequestCounts] = field(default_factory=dict)

    def counts_of(self, name: str) -> RequestCounts:
        """Of a benchmark with metrics alone, or of a group of them."""
        inside = [counts for member, counts in self.counts.items() if member in self._members(name)]
        return RequestCounts(
            sum(c.num for c in inside), sum(c.failed for c in inside), sum(c.cut_to_fit for c in inside)
        )

    def check_answered(self) -> None:
        """Raises RuntimeError naming a benchmark of which nothing was answered: a score of nothing would look
        like one of 0."""
        for name in dict.fromkeys(a.benchmark for a in self.answers):
            answers = [a for a in self.answers if a.benchmark == name]
            if all(a.verdict == FAILED for a in answers):
                raise RuntimeError(
                    f"none of {len(answers)} questions of {name} was answered ({answers[0].error})"
                )
        for name, counts in self.counts.items():
            if counts.num == counts.failed:
                raise RuntimeError(f"none of {counts.num} requests of {name} was answered: it has no score")
        if not self.answers and not self.counts:
            raise RuntimeError("there was nothing to ask: no benchmark has a score")

    def pooled(self) -> list[Answer]:
        """The answers, and those of each group once more under its name: every problem weighs the same."""
        pooled = list(self.answers)
        for group in self.groups:
            inside = self._members(group)
            pooled += [
                replace(a, benchmark=group, problem=f"{a.benchmark}/{a.problem}")
                for a in self.answers
                if a.benchmark in inside
            ]
        return pooled

    def _members(self, name: str) -> set[str]:
        parts = self.groups.get(name, ())
        return {name}.union(*(self._members(part) for part in parts)) if parts else {name}
