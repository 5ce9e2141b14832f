"""What a person sees: progress while a load runs, a table of rows, the plan of a dry run; and vLLM's JSON.

Formats rows; knows nothing of how they were measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from llada_exp.bench.client import LoadResult
from llada_exp.bench.settings import BenchSettings
from llada_exp.runs.files import write_whole

_COLUMNS = (
    # heading, width, column, format
    ("req/s", 7, "request_throughput", "{:.2f}"),
    ("tok/s", 8, "output_throughput", "{:.1f}"),
    ("ttft p50", 9, "median_ttft_ms", "{:.1f}"),
    ("tpot p50", 9, "median_tpot_ms", "{:.2f}"),
    ("e2el p50", 9, "median_e2el_ms", "{:.1f}"),
    ("e2el p99", 9, "p99_e2el_ms", "{:.1f}"),
    ("batch", 6, "mean_batch_size", "{:.1f}"),
    ("NFE", 6, "nfe", "{:.1f}"),
    ("acc %", 6, "accuracy", "{:.1%}"),
    ("MiB", 6, "peak_memory_mb", "{:.0f}"),
    ("ok", 5, "completed", "{}"),
    ("failed", 6, "failed", "{}"),
)
_NAME_WIDTH = 36


def header() -> str:
    return f"{'point':<{_NAME_WIDTH}} " + " ".join(f"{name:>{width}}" for name, width, _, _ in _COLUMNS)


def line(row: Mapping[str, Any]) -> str:
    """One row under `header`. Latencies in ms; `-` is not measurable; flags at the end."""
    cells = [
        f"{'-' if row[name] is None else form.format(row[name]).rstrip('%'):>{width}}"
        for _, width, name, form in _COLUMNS
    ]
    flags = [n for n in ("overlapped", "generator_late") if row[n]]
    return f"{row['point'][:_NAME_WIDTH]:<{_NAME_WIDTH}} {' '.join([*cells, *flags])}"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join([header(), *map(line, rows)])


def plan_line(folder: Path, settings: BenchSettings, note: str = "") -> str:
    """A point of a dry run."""
    load = settings.load
    rate = f"rate={load.rate:g} {load.arrival}" if load.rate else f"concurrency={load.concurrency}"
    amount = f"{load.num_requests} requests" + (f" or {load.duration:g} s" if load.duration else "")
    where = settings.url or "own server"
    times = f", {load.repeats} times" if load.repeats > 1 else ""
    return f"{folder}  {where}  {settings.workload['kind']}  {rate}  {amount}{times}{note}"


@contextmanager
def progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, nothing in a log; the callable counts one request."""
    with tqdm(total=total, unit="req", leave=False, disable=not sys.stderr.isatty()) as bar:

        def tick() -> None:
            bar.update()

        yield tick


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
