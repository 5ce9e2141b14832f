"""What a person sees of an evaluation: a table of rows, and the plan of a dry run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llada_exp.evals.evaluation import EvalSettings
from llada_exp.evals.schema import complete
from llada_exp.tables import Table, TableColumn, number, wrapped


def _share(name: str) -> Callable[[Mapping[str, Any]], str | None]:
    """In %, with its interval in brackets."""

    def text(row: Mapping[str, Any]) -> str | None:
        if row.get(name) is None:
            return None
        text = f"{100 * row[name]:.1f}"
        if row.get(f"{name}_low") is None:
            return text
        return f"{text} [{100 * row[f'{name}_low']:.1f}, {100 * row[f'{name}_high']:.1f}]"

    return text


def benchmark_name(row: Mapping[str, Any]) -> str:
    """The benchmark, with its number of samples where there are several."""
    several = row["num_samples"] is not None and row["num_samples"] > 1
    return f"{row['benchmark']}:{row['num_samples']:.0f}" if several else str(row["benchmark"])


_POINT = TableColumn("evaluation", lambda row: row.get("point"), left=True)
_STEP = number("step", "checkpoint_step", "{:.0f}")
_ACCURACY = TableColumn("accuracy % [95 %]", _share("accuracy"))
_COLUMNS = (
    TableColumn("benchmark", benchmark_name, left=True),
    number("n", "num_problems", "{:.0f}"),
    _ACCURACY,
)
_SAMPLED = (
    TableColumn("maj@k %", _share("majority"), rank=3),
    TableColumn("pass@k %", _share("pass_k"), rank=4),
)
"""Only where there are several samples."""
_CUT = TableColumn("cut to fit", lambda row: str(row.get("cut_to_fit") or 0), rank=2)
"""Only where something was."""
_COSTS = (
    number("cut off %", "cut_off", "{:.1%}", rank=5),
    number("no answer %", "no_answer", "{:.1%}", rank=6),
    number("failed", "failed", "{:.0f}", rank=1),
    number("tok/answer", "mean_output_tokens", "{:.1f}", rank=7),
    number("NFE", "mean_nfe", "{:.1f}", rank=8),
    number("TPF", "tpf", "{:.2f}", rank=9),
)


def table(rows: Sequence[Mapping[str, Any]], without_score: Sequence[int] = ()) -> Table:
    """A line a benchmark: by step where they are of a training run's checkpoints, under the evaluation's name
    unless the step says it all. `-` is unknown.

    without_score: steps that have no row, as of damaged checkpoints.
    """
    columns = [_POINT, *_COLUMNS]
    if without_score or any(row["checkpoint_step"] is not None for row in rows):
        places = {(row["checkpoint_step"], benchmark_name(row)) for row in rows}
        columns = [_STEP, *_COLUMNS] if len(places) == len(rows) else [_STEP, *columns]
        bare = [
            {"point": f"step_{n}", "benchmark": "(no score)", "checkpoint_step": n} for n in without_score
        ]
        rows = sorted([*rows, *map(complete, bare)], key=lambda row: row["checkpoint_step"] or -1)
    sampled = _SAMPLED if any(row["num_samples"] not in (None, 1) for row in rows) else ()
    cut = [_CUT] if any(row.get("cut_to_fit") for row in rows) else []
    return Table([*columns, *sampled, *cut, *_COSTS], rows)


def headline(row: Mapping[str, Any]) -> str:
    """A row in a line: what matters most."""
    return f"{benchmark_name(row)}: accuracy {_ACCURACY.text(row) or '-'} %, {row['failed'] or 0} failed"


def metric_lines(metrics: Mapping[str, Any]) -> list[str]:
    """A harness's own metrics, as far as they are value and standard error: a line a benchmark."""
    lines = []
    for name, measures in metrics.items():
        cells = [
            f"{metric} {m['value']:.4g}" + ("" if m.get("stderr") is None else f" +- {m['stderr']:.2g}")
            for metric, m in measures.items()
            if isinstance(m, Mapping) and "value" in m
        ]
        if cells:
            lines.append(wrapped(f"{name}: {', '.join(cells)}", indent="  "))
    return lines


def plan_line(folder: Path, settings: EvalSettings) -> str:
    """An evaluation of a dry run."""
    names = ",".join(f"{b.name}:{b.num_samples}" for b in settings.benchmarks)
    where = ",".join(settings.urls) or "own server"
    if settings.server is not None:
        where += f" of {settings.server.model.path or settings.server.model.name}"
    limit = f"  first {settings.max_samples} problems" if settings.max_samples else ""
    request = " ".join(f"{name}={value}" for name, value in settings.request.items())
    words = [str(folder), settings.harness, names + limit, where, request]
    return "  ".join(word for word in words if word)
