"""A measured point as a task: the benchmark's settings, words and columns, for `runs/task.py`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import yaml

from llada_exp.bench import report, tracking
from llada_exp.bench.point import measure
from llada_exp.bench.rows import PointFolder, has_results
from llada_exp.bench.schema import ROW, VERSION
from llada_exp.bench.settings import BenchSettings, validate_bench
from llada_exp.clients.http import base_url
from llada_exp.runs.task import Measured, Task


def _measure(settings: BenchSettings, folder: Path, overrides: Sequence[str], prepared: None) -> Measured:
    row, results = measure(settings, PointFolder(folder), overrides)
    if settings.vllm_json:
        report.write_vllm_json(folder / "vllm.json", row, results)
    return Measured([row], partial(tracking.content, folder, row, results, settings.tracking.log_text))


def _finished_note(folder: Path, settings: BenchSettings) -> str | None:
    """The hash is not of the server's address."""
    url = yaml.safe_load((folder / "config.yaml").read_text())["url"]
    url = None if url is None else base_url(url)
    return None if url == settings.url else f"measured before, at {url}: another server wants another name"


TASK = Task(
    program="bench",
    config="bench",
    name_key="name",
    job_type="bench",
    columns=ROW,
    version=VERSION,
    not_in_commands=frozenset(("name", "resume", "dry_run")),
    validate=validate_bench,
    urls=lambda settings: (settings.url,) if settings.url else (),
    plan_line=report.plan_line,
    measure=_measure,
    table=report.table,
    headline=report.headline,
    has_results=has_results,
    finished_note=_finished_note,
    summarise=lambda folder, rows: (report.table(rows), report.flag_notes(rows)),
)
