"""One evaluation as typed, checked values: what `settings.py` reads and everything else works by.

Knows no configuration file, no HTTP and no harness.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llada_exp.runs.settings import Tracking
from llada_exp.settings import ServeSettings

JOB = "job:"
"""A url of this beginning is the endpoint of a SLURM job, by id or by the path of its file."""


@dataclass(frozen=True)
class Benchmark:
    """name: as the harness knows it; num_samples: answers asked for each problem."""

    name: str
    num_samples: int


@dataclass(frozen=True)
class EvalSettings:
    """One evaluation. urls: endpoints that run already, `job:12` among them, () for a server of our own;
    server: what it is started with; request: fields of every request's body; harness_keys: the harness's
    own; the others as conf/eval.yaml explains them."""

    name: str
    harness: str
    harness_keys: Mapping[str, Any]
    benchmarks: tuple[Benchmark, ...]
    urls: tuple[str, ...]
    server: ServeSettings | None
    server_tree: Mapping[str, Any]
    request: Mapping[str, Any]
    seed: int
    max_samples: int | None
    chat_template: bool
    concurrency: int
    timeout: float
    max_retries: int
    patience: float
    checkpoints: str | None
    checkpoint_pattern: str
    checkpoint_steps: tuple[int, ...] | None
    checkpoint_step: int | None
    tracking: Tracking
    dry_run: bool
    resume: bool
    config_hash: str

    @property
    def num_samples(self) -> int:
        return max(b.num_samples for b in self.benchmarks)
