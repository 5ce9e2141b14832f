"""A measured point as a task: the benchmark's settings, words and columns, for `runs/task.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from llada_exp.bench import report, tracking
from llada_exp.bench.point import measure
from llada_exp.bench.rows import PointFolder
from llada_exp.bench.schema import ROW, VERSION
from llada_exp.bench.settings import BenchSettings, validate_bench
from llada_exp.clients.http import base_url
from llada_exp.runs.task import Measured, Task
from llada_exp.tables import Table


class BenchTask(Task[BenchSettings]):
    program = "bench"
    name_key = "name"
    job_type = "bench"
    columns = ROW
    version = VERSION
    not_in_commands = frozenset(("name", "resume", "dry_run"))

    def validate(self, tree: Mapping[str, Any]) -> BenchSettings:
        return validate_bench(tree)

    def urls(self, settings: BenchSettings) -> Sequence[str]:
        return (settings.url,) if settings.url else ()

    def plan_line(self, folder: Path, settings: BenchSettings) -> str:
        return report.plan_line(folder, settings)

    def measure(
        self, settings: BenchSettings, folder: Path, overrides: Sequence[str], prepared: None
    ) -> Measured:
        row, results = measure(settings, PointFolder(folder), overrides)
        if settings.vllm_json:
            report.write_vllm_json(folder / "vllm.json", row, results)
        log_text = settings.tracking.log_text
        return Measured([row], partial(tracking.content, folder, row, results, log_text))

    def table(self, rows: Sequence[Mapping[str, Any]]) -> Table:
        return report.table(rows)

    def headline(self, row: Mapping[str, Any]) -> str:
        return report.headline(row)

    def finished_note(self, folder: Path, settings: BenchSettings) -> str:
        """The hash is not of the server's address."""
        url = yaml.safe_load((folder / "config.yaml").read_text())["url"]
        url = None if url is None else base_url(url)
        return "" if url == settings.url else f"measured before, at {url}: another server wants another name"

    def summarise(self, folder: Path, rows: Sequence[Mapping[str, Any]]) -> tuple[Table, list[str]]:
        return report.table(rows), report.flag_notes(rows)
