"""What a harness brings back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llada_exp.evals.answers import Answer


@dataclass(frozen=True)
class HarnessResult:
    """model: name of what was asked; url: of an endpoint that can tell of itself, None where there was
    none; local: it was a server of our own; num_before: answers that an earlier start had brought; version:
    the harness's; metrics: its own, kept as they are; accuracies: benchmark -> what its accuracy is called,
    where that is not pass@1; groups: a benchmark of several -> their names, or those of groups."""

    answers: list[Answer]
    model: str
    url: str | None
    local: bool
    num_before: int = 0
    version: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    accuracies: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)

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
