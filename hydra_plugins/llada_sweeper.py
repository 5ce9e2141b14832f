"""The sweeper of benchmarks and evaluations, where Hydra looks for plugins: this namespace and no other.

Every program of ours that composes with Hydra imports this, so what sweeping needs is imported when one
sweeps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

TASKS = {"bench": "llada_exp.bench.task:BenchTask", "evals": "llada_exp.evals.task:EvalTask"}


class PointSweeper(BasicSweeper):
    """program: bench or evals, whose points they are; params: key -> values, as in Hydra's own; points:
    overrides that go together, one text each, every one combined with all values of params and of the
    command line. A command line that sets a key of the points replaces them: so a row's own command stands
    for its point alone."""

    def __init__(
        self, program: str, params: dict[str, str] | None = None, points: Sequence[str] | None = None
    ) -> None:
        super().__init__(max_batch_size=None, params=params)
        self.program = program
        self.points = tuple(points or [""])

    def sweep(self, arguments: list[str]) -> Any:
        from llada_exp.runs.sweep import Sweep

        module, _, name = TASKS[self.program].partition(":")
        task = getattr(import_module(module), name)()
        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        keys = {word.split("=")[0] for point in self.points for word in point.split()}
        points = [""] if keys & {word.split("=")[0] for word in arguments} else self.points
        batch = [[*point.split(), *self._parse_config(), *arguments] for point in points]
        return Sweep(task, self.config, self.hydra_context.config_loader, self.launcher).run(batch)


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="points",
    node={"_target_": f"{__name__}.PointSweeper", "program": "bench", "params": None, "points": None},
    provider="llada_exp",
)


def folder_name(value: Any) -> str:
    """Any value as the name of a folder: `gsm8k:4` is gsm8k-4."""
    words = [value] if isinstance(value, str) else list(value)
    text = "+".join(str(word).rsplit("/", 1)[-1] for word in words)
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.") or "evaluation"


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
