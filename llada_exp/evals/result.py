"""What a harness brings back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llada_exp.evals.answers import Answer


@dataclass(frozen=True)
class Found:
    """model: name of what was asked; url: of an endpoint that can tell of itself, None where there was
    none; local: it was a server of our own; num_before: answers that an earlier start had brought; version:
    the harness's; metrics: its own, kept as they are; accuracies: benchmark -> what its accuracy is called,
    where that is not pass@1."""

    answers: list[Answer]
    model: str
    url: str | None
    local: bool
    num_before: int = 0
    version: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    accuracies: Mapping[str, str] = field(default_factory=dict)
