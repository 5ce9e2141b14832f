"""A sweep of measured points: `runs.sweep` with the benchmark's settings, rows and tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llada_exp import jsonl
from llada_exp.bench import report
from llada_exp.bench.rows import write_summary
from llada_exp.bench.settings import BenchSettings, validate_bench
from llada_exp.runs import sweep
from llada_exp.runs.servers import check_preset, tree_key


class Sweep(sweep.Sweep):
    def validate(self, tree: dict[str, Any], overrides: Sequence[str]) -> BenchSettings:
        settings = validate_bench(tree)
        check_preset(overrides, [settings.url] if settings.url else [])
        return settings

    def server_of(self, settings: BenchSettings) -> str:
        return settings.url or tree_key(settings.server_tree)

    def plan_line(self, folder: Path, settings: BenchSettings, note: str) -> str:
        return report.plan_line(folder, settings, note)

    def header(self) -> str:
        return report.header()

    def report(self, good: Sequence[str]) -> None:
        rows = [row for name in good for row in jsonl.read(self.root / name / "row.jsonl")]
        print("\n" + report.table(rows))
        if rows:
            print(f"rows: {write_summary(self.root, rows)}", flush=True)
