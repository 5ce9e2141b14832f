"""An evaluation as a task: its settings, words and columns for the skeleton in `runs/task.py`.

A sweep goes over settings, over a training run's checkpoints, or both. A checkpoint that is damaged fails
before anything is started, and is named at the end; one that was evaluated under the same settings is passed
over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from llada_exp.evals import answers, checkpoints, curve, report, tracking
from llada_exp.evals.evaluation import EvalSettings
from llada_exp.evals.harness import Prepared
from llada_exp.evals.harnesses import harnesses
from llada_exp.evals.run import evaluate
from llada_exp.evals.schema import ROW, VERSION
from llada_exp.evals.settings import validate_eval
from llada_exp.runs import status
from llada_exp.runs.task import Measured, Task, Variant
from llada_exp.tables import Table


class EvalTask(Task[EvalSettings]):
    program = "evals"
    name_key = "expname"
    job_type = "eval"
    columns = ROW
    version = VERSION
    not_in_commands = frozenset(
        ("expname", "output_dir", "resume", "dry_run", "checkpoints", "checkpoint_pattern",
         "checkpoint_steps", "experiment=checkpoints")
    )  # fmt: skip

    def validate(self, tree: Mapping[str, Any]) -> EvalSettings:
        return validate_eval(tree)

    def urls(self, settings: EvalSettings) -> Sequence[str]:
        return settings.urls

    def prepare(self, settings: EvalSettings) -> Prepared:
        return harnesses()[settings.harness].prepare(settings)

    def check_single(self, settings: EvalSettings) -> None:
        if settings.checkpoints is not None:
            raise ValueError("checkpoints is set; a folder of them is a sweep: experiment=checkpoints, or -m")

    def check_folder(self, folder: Path, settings: EvalSettings) -> None:
        if status.read(folder).get("config_hash") not in (None, settings.config_hash):
            raise ValueError(
                f"expname is {settings.name!r}; {folder} holds an evaluation under other settings "
                f"({folder / 'config.yaml'} has them): expected another expname, or the same settings"
            )

    def plan_line(self, folder: Path, settings: EvalSettings) -> str:
        return report.plan_line(folder, settings)

    def plan_details(self, settings: EvalSettings, folder: Path, prepared: Prepared) -> list[str]:
        return prepared.plan(folder)

    def measure(
        self, settings: EvalSettings, folder: Path, overrides: Sequence[str], prepared: Prepared
    ) -> Measured:
        rows, metrics = evaluate(settings, folder, overrides, prepared)
        notes = [*report.metric_lines(metrics), f"answers: {folder / answers.FILE}"]
        content = partial(tracking.content, folder, rows, settings.tracking.log_text)
        return Measured(rows, content, notes)

    def table(self, rows: Sequence[Mapping[str, Any]]) -> Table:
        return report.table(rows)

    def headline(self, row: Mapping[str, Any]) -> str:
        return report.headline(row)

    def variants(self, tree: dict[str, Any]) -> list[Variant]:
        settings = validate_eval(tree)
        if settings.checkpoints is None:
            return [Variant()]
        if settings.urls:
            raise ValueError("url is set; each checkpoint is served by a server of its own")
        base = tree["model"]["base"]
        return [
            Variant(
                (*checkpoints.overrides(checkpoint, base), f"checkpoint_step={checkpoint.step}"),
                f"step_{checkpoint.step}",
                checkpoint.problem,
            )
            for checkpoint in checkpoints.find(
                settings.checkpoints,
                settings.checkpoint_pattern,
                settings.checkpoint_steps,
                base,
                settings=settings.server.model.settings if settings.server else None,
            )
        ]

    def folder_name(self, number: int, overrides: Sequence[str]) -> str:
        """Without what NeMo-Skills does not take in a path."""
        return re.sub(r"[=,]", "-", super().folder_name(number, overrides))

    def order(self, row: Mapping[str, Any]) -> Any:
        return row["checkpoint_step"] is None, row["checkpoint_step"] or 0, row["point"]

    def summarise(self, folder: Path, rows: Sequence[Mapping[str, Any]]) -> tuple[Table, list[str]]:
        checkpoints.point_latest(folder.parent, folder.name)
        without_score = _without_score(folder)
        table = report.table(rows, without_score)
        if not without_score and all(row["checkpoint_step"] is None for row in rows):
            return table, []
        figure = folder / "accuracy_by_step.png"
        curve.plot(rows, without_score).savefig(figure, dpi=150)
        return table, [f"figure: {figure}"]


def _without_score(folder: Path) -> list[int]:
    """Steps of a sweep whose evaluation did not come to its end."""
    steps = {path.parent: path.parent.name.split("_")[1] for path in folder.glob(f"step_*/{status.FILE}")}
    return [
        int(step) for place, step in steps.items() if step.isdigit() and status.verdict(place)[0] != status.OK
    ]
