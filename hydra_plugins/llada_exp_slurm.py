"""The Hydra launcher of `hydra/launcher=slurm`: one SLURM job per point, submitted by submitit.

It stands in for hydra-submitit-launcher's own, which asks sacct how jobs are (without accounting it
waits for ever for a killed one), takes only the first failure out of a sweep, and has no dry run.
Hydra takes launchers from this namespace only; what is more than glue is in llada_exp.jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher


class JobLauncher(BaseSubmititLauncher):
    """Its parameters are those of conf/hydra/launcher/slurm.yaml. listener: is told of each point's job (see
    submit.Listener); it stays here, while this object travels with each job."""

    listener: Any = None

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from llada_exp.jobs import submit  # heavy, and wanted by nobody who only lists plugins

        if self.params["endpoint"]:  # a sweep of points is checked by its sweeper
            counts = self._replicas(job_overrides)
            job_overrides = [one for one, n in zip(job_overrides, counts, strict=True) for _ in range(n)]
        points = list(enumerate(map(list, job_overrides), initial_job_idx))
        arguments: list[Any] = [
            (overrides, "hydra.sweep.dir", index, f"job_id_for_{index}", Singleton.get_state())
            for index, overrides in points
        ]
        listener, self.listener = self.listener, None
        return submit.launch(self, arguments, submit.ArrayPlan(**self.params), listener)

    def _replicas(self, job_overrides: Sequence[Sequence[str]]) -> list[int]:
        """How many servers each is. Raises ValueError for the first bad one, before any is submitted."""
        from llada_exp.runs.sweep import plain
        from llada_exp.settings import replicas_of, validate

        assert self.config is not None
        assert self.hydra_context is not None
        load = self.hydra_context.config_loader.load_sweep_config
        trees = [plain(load(self.config, list(one))) for one in job_overrides]
        for tree in trees:
            validate(tree)
        return [replicas_of(tree) for tree in trees]

    def script(self, num_points: int) -> str:
        """The batch script of so many points, as a dry run shows it."""
        from llada_exp.jobs import submit

        return submit.script(submit.ArrayPlan(**self.params), num_points)
