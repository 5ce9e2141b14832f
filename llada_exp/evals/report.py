"""What a person sees of an evaluation: a table of rows, the plan of a dry run, progress."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from llada_exp.evals.evaluation import EvalSettings

_NAME, _BENCHMARK = 28, 14
_COLUMNS = (
    # heading, width, column, format
    ("n", 5, "num_problems", "{}"),
    ("k", 3, "num_samples", "{}"),
    ("accuracy % [95 %]", 20, "accuracy", "{:.1%}"),
    ("maj@k %", 20, "majority", "{:.1%}"),
    ("pass@k %", 20, "pass_k", "{:.1%}"),
    ("cut off %", 9, "cut_off", "{:.1%}"),
    ("no answer %", 11, "no_answer", "{:.1%}"),
    ("failed", 6, "failed", "{}"),
    ("tokens", 7, "mean_output_tokens", "{:.1f}"),
    ("NFE", 6, "mean_nfe", "{:.1f}"),
    ("TPF", 6, "tpf", "{:.2f}"),
)
_SAMPLED = ("majority", "pass_k")


def header(sampled: bool = True) -> str:
    own = [f"{name:>{width}}" for name, width, key, _ in _COLUMNS if sampled or key not in _SAMPLED]
    return f"{'evaluation':<{_NAME}} {'benchmark':<{_BENCHMARK}} {' '.join(own)}"


def line(row: Mapping[str, Any], sampled: bool = True) -> str:
    """One row under `header`. Intervals in brackets; `-` is not known."""
    cells = [
        f"{_cell(row, key, form):>{width}}"
        for _, width, key, form in _COLUMNS
        if sampled or key not in _SAMPLED
    ]
    return f"{row['point'][:_NAME]:<{_NAME}} {row['benchmark'][:_BENCHMARK]:<{_BENCHMARK}} {' '.join(cells)}"


def _cell(row: Mapping[str, Any], key: str, form: str) -> str:
    if row[key] is None:
        return "-"
    text = form.format(row[key]).rstrip("%")
    if row.get(f"{key}_low") is None:
        return text
    return f"{text} [{100 * row[f'{key}_low']:.1f}, {100 * row[f'{key}_high']:.1f}]"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Columns of several samples only where there are such."""
    sampled = any(row["num_samples"] not in (None, 1) for row in rows)
    return "\n".join([header(sampled), *(line(row, sampled) for row in rows)])


def metric_lines(metrics: Mapping[str, Any]) -> list[str]:
    """A harness's own metrics, as far as they are value and standard error: a line a benchmark."""
    lines = []
    for name, own in metrics.items():
        known = {
            metric: told for metric, told in own.items() if isinstance(told, Mapping) and "value" in told
        }
        cells = [
            f"{metric} {told['value']:.4g}" + (f" +- {told['stderr']:.2g}" if told.get("stderr") else "")
            for metric, told in known.items()
        ]
        if cells:
            lines.append(f"{name}: {', '.join(cells)}")
    return lines


def plan_line(folder: Path, settings: EvalSettings, note: str = "") -> str:
    """An evaluation of a dry run."""
    names = ",".join(f"{b.name}:{b.num_samples}" for b in settings.benchmarks)
    where = ",".join(settings.urls) or "own server"
    if settings.server is not None:
        where += f" of {settings.server.model.path or settings.server.model.name}"
    limit = f"  first {settings.max_samples} problems" if settings.max_samples else ""
    request = " ".join(f"{name}={value}" for name, value in settings.request.items())
    told = [str(folder), settings.harness, names + limit, where, request]
    return "  ".join(word for word in told if word) + note


@contextmanager
def progress(total: int | None) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, nothing in a log; the callable counts one answer."""
    with tqdm(total=total, unit="answer", leave=False, disable=not sys.stderr.isatty()) as bar:

        def tick() -> None:
            bar.update()

        yield tick
