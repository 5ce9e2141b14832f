"""One evaluation as typed, checked values: what `settings.py` reads and everything else works by.

Knows no configuration file, no HTTP and no harness.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from llada_exp.runs.settings import Tracking
from llada_exp.settings import ServeSettings
from llada_exp.validation import MAX_TIME_S, Flag, Seconds, Text, between, one_or_more, says

JOB = "job:"
"""A url of this beginning is the endpoint of a SLURM job, by id or by the path of its file."""

Step = Annotated[int, between(0, 2**53)]
Steps = Annotated[tuple[Step, ...], one_or_more, says("numbers of steps: [100,200]", min_length=1)]


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
    seed: Annotated[int, between(0, 2**53)]
    max_samples: Annotated[int, between(1, 2**53)] | None
    chat_template: Flag
    concurrency: Annotated[int, between(1, 65536)]
    timeout: Seconds
    max_retries: Annotated[int, between(0, 1000)]
    patience: Annotated[float, between(0.0, MAX_TIME_S)]
    checkpoints: Text | None
    checkpoint_pattern: Text
    checkpoint_steps: Steps | None
    checkpoint_step: Step | None
    tracking: Tracking
    dry_run: Flag
    resume: Flag
    config_hash: str

    @property
    def num_samples(self) -> int:
        return max(b.num_samples for b in self.benchmarks)
