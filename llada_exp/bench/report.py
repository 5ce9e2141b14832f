"""What a person sees: a table of rows, the plan of a dry run; and vLLM's JSON.

Formats rows; knows nothing of how they were measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llada_exp.bench.client import LoadResult
from llada_exp.bench.schema import ROW
from llada_exp.bench.settings import BenchSettings
from llada_exp.runs.files import write_whole
from llada_exp.tables import Table, TableColumn, number, wrapped

_FLAGS = ("overlapped", "generator_late")


def _flags(row: Mapping[str, Any]) -> str | None:
    return " ".join(name for name in _FLAGS if row[name]) or None


_COLUMNS = (
    TableColumn("point", lambda row: row["point"], left=True),
    number("req/s", "request_throughput", "{:.2f}"),
    number("tok/s", "output_throughput", "{:.1f}"),
    number("ttft_ms", "median_ttft_ms", "{:.1f}", rank=2),
    number("tpot_ms", "median_tpot_ms", "{:.2f}", rank=4),
    number("e2el_ms", "median_e2el_ms", "{:.1f}", rank=1),
    number("e2el_p99_ms", "p99_e2el_ms", "{:.1f}", rank=6),
    number("batch", "mean_batch_size", "{:.1f}", rank=7),
    number("NFE", "nfe", "{:.1f}", rank=5),
    number("acc_%", "accuracy", "{:.1%}", rank=3),
    number("MiB", "peak_memory_mb", "{:.0f}", rank=8),
    number("ok", "completed", "{}", rank=9),
    number("failed", "failed", "{}"),
)


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Latencies are medians where they do not say p99; `-`: not measurable; flags stand last."""
    flags = [TableColumn("flags", _flags, left=True)] if any(map(_flags, rows)) else []
    return Table([*_COLUMNS, *flags], rows)


def flag_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the flags among these rows mean."""
    raised = {name for row in rows for name in _FLAGS if row[name]}
    return [
        wrapped(f"{column.name}: {column.meaning}", indent="  ") for column in ROW if column.name in raised
    ]


def headline(row: Mapping[str, Any]) -> str:
    """A row in a line: what matters most."""
    cells = [(c.heading, c.text(row)) for c in _COLUMNS[1:] if c.rank < 4]
    words = [f"{heading} {text}" for heading, text in cells if text]
    return ", ".join([*words, *filter(None, [_flags(row)])])


def plan_line(folder: Path, settings: BenchSettings) -> str:
    """A point of a dry run."""
    load = settings.load
    rate = f"rate={load.rate:g} {load.arrival}" if load.rate else f"concurrency={load.concurrency}"
    amount = f"{load.num_requests} requests" + (f" or {load.duration:g} s" if load.duration else "")
    where = settings.url or "own server"
    times = f", {load.repeats} times" if load.repeats > 1 else ""
    return f"{folder}  {where}  {settings.workload['kind']}  {rate}  {amount}{times}"


def write_vllm_json(path: Path, row: Mapping[str, Any], results: Sequence[LoadResult]) -> None:
    """The keys of vLLM's `bench serve` result file, of all repeats."""
    names = [n for n in row if n.endswith(("_ttft_ms", "_tpot_ms", "_itl_ms", "_e2el_ms", "_throughput"))]
    names += ["duration", "completed", "failed", "total_input_tokens", "total_output_tokens",
              "request_goodput", "num_requests"]  # fmt: skip
    records = [r for result in results for r in result.records]
    tree = {
        "date": row["started"],
        "backend": "llada_exp",
        "model_id": row["model"],
        "num_prompts": row["num_requests"],
        "request_rate": row["rate"] if row["rate"] is not None else "inf",
        "max_concurrency": row["concurrency"],
        **{name: row[name] for name in names if name != "num_requests"},
        "input_lens": [r.prompt_tokens for r in records],
        "output_lens": [r.output_tokens for r in records],
        "ttfts": [None if r.ttft_ms is None else r.ttft_ms / 1000 for r in records],
        "itls": [[gap / 1000 for gap in r.itl_ms] for r in records],
        "errors": [r.error or "" for r in records],
    }
    write_whole(path, json.dumps(tree, indent=1) + "\n")
