"""A sweep of evaluations: over settings, over a training run's checkpoints, or both.

`runs.sweep` with the evaluation's settings, rows and tables. A checkpoint that is damaged fails before
anything is started, and is named at the end; one that was evaluated under the same settings is passed over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llada_exp import jsonl
from llada_exp.evals import checkpoints, curve, report
from llada_exp.evals.evaluation import EvalSettings
from llada_exp.evals.harnesses import harnesses
from llada_exp.evals.run import check_folder
from llada_exp.evals.schema import write_rows
from llada_exp.evals.settings import validate_eval
from llada_exp.runs import status, sweep
from llada_exp.runs.servers import check_preset, tree_key
from llada_exp.runs.sweep import Point, Variant

SUMMARY = "summary"


class Sweep(sweep.Sweep):
    name_key = "expname"

    def validate(self, tree: dict[str, Any], overrides: Sequence[str]) -> EvalSettings:
        settings = validate_eval(tree)
        check_preset(overrides, settings.urls)
        harnesses()[settings.harness].check(settings)
        return settings

    def variants(self, tree: dict[str, Any]) -> list[Variant]:
        settings = validate_eval(tree)
        if settings.checkpoints is None:
            return [Variant()]
        if settings.urls:
            raise ValueError("url is set; each checkpoint is served by a server of its own")
        base = tree["model"]["base"]
        found = checkpoints.find(
            settings.checkpoints,
            settings.checkpoint_pattern,
            settings.checkpoint_steps,
            base,
            settings=settings.server.model.settings if settings.server else None,
        )
        return [
            Variant(
                (*checkpoints.overrides(own, base), f"checkpoint_step={own.step}"),
                f"step_{own.step}",
                own.problem,
            )
            for own in found
        ]

    def folder_name(self, number: int, overrides: Sequence[str]) -> str:
        """Without what NeMo-Skills does not take in a path."""
        return re.sub(r"[=,]", "-", super().folder_name(number, overrides))

    def check(self, points: Sequence[Point]) -> None:
        for point in points:
            check_folder(self.root / point.folder, point.settings, must_resume=True)

    def server_of(self, settings: EvalSettings) -> str:
        return json.dumps(settings.urls) if settings.urls else tree_key(settings.server_tree)

    def plan_line(self, folder: Path, settings: EvalSettings, note: str) -> str:
        return report.plan_line(folder, settings, note)

    def header(self) -> str:
        return report.header()

    def report(self, good: Sequence[str]) -> None:
        checkpoints.point_latest(self.root.parent, self.root.name)
        rows = [row for name in good for row in jsonl.read(self.root / name / "row.jsonl")]
        lost = self._lost()
        if any(row["checkpoint_step"] is not None for row in rows) or lost:
            rows.sort(key=lambda row: (row["checkpoint_step"] is None, row["checkpoint_step"], row["point"]))
            print("\n" + curve.table(rows, lost))
            curve.plot(rows, lost).savefig(self.root / "accuracy_by_step.png", dpi=150)
            print(f"figure: {self.root / 'accuracy_by_step.png'}")
        else:
            print("\n" + report.table(rows))
        if rows:
            print(f"rows: {write_rows(self.root / SUMMARY, rows)}", flush=True)

    def _lost(self) -> dict[int, str]:
        """Step -> why it has no score."""
        found = {}
        for path in self.root.glob(f"step_*/{status.FILE}"):
            state, why = status.verdict(path.parent)
            digits = path.parent.name.split("_")[1]
            if state != status.OK and digits.isdigit():
                found[int(digits)] = why
        return found
