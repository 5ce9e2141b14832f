"""The README's picture and table: what batches and a cache give at equal quality, on the embedded model.

    nice python -m benchmarks.batching             measure, draw, and write the table: about ten minutes
    python -m benchmarks.batching --rows FILE      draw a summary.parquet that is there

Runs `python -m llada_exp.bench experiment=batching` in a folder of its own, keeps what the picture needs of
its rows in docs/data/batching.jsonl, draws docs/batching.png from that, and has docs/tables.py write the
README's table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llada_exp.bench.plot import BLUE, ORANGE
from llada_exp.programs import run_program

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).parents[1]
DATA = ROOT / "docs" / "data" / "batching.jsonl"
PICTURE = ROOT / "docs" / "batching.png"
KEPT = (
    "mode", "batch_size", "rule", "cache", "load", "rate", "concurrency", "num_requests", "repeats",
    "completed", "failed", "num_correct", "accuracy", "accuracy_low", "accuracy_high",
    "request_throughput", "request_throughput_spread", "median_e2el_ms", "median_e2el_ms_spread", "nfe",
    "mean_batch_size", "max_tokens", "overlapped", "model", "workload", "device_name", "torch_version",
    "commit", "dirty", "started", "command",
)  # fmt: skip
Row = Mapping[str, Any]


def measure(folder: Path) -> Path:
    """The summary of the sweep, run anew in a folder. Raises ValueError where a point failed."""
    command = [sys.executable, "-m", "llada_exp.bench", "experiment=batching", "name=batching"]
    done = subprocess.run([*command, f"hydra.sweep.dir={folder}", "tracking=disabled"], check=False)
    if done.returncode:
        raise ValueError(f"the sweep ended with {done.returncode}; its rows are in {folder}")
    return folder / "summary.parquet"


def keep(summary: Path) -> list[Row]:
    import pyarrow.parquet as parquet

    rows: list[Row] = [{name: row[name] for name in KEPT} for row in parquet.read_table(summary).to_pylist()]
    DATA.parent.mkdir(exist_ok=True)
    DATA.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return rows


def chosen(rows: Sequence[Row], x: str, **fields: Any) -> list[Row]:
    """Those with these values, by rising x."""
    fit = [row for row in rows if all(row[name] == value for name, value in fields.items())]
    return sorted(fit, key=lambda row: row[x])


def line(axis: Axes, rows: Sequence[Row], x: str, y: str, scale: float, label: str, **style: Any) -> None:
    """A measure with its standard deviation over repeats."""
    bars = [(row[f"{y}_spread"] or 0) * scale for row in rows]
    points = ([row[x] for row in rows], [row[y] * scale for row in rows])
    axis.errorbar(*points, yerr=bars, label=label, capsize=3, markersize=5, linewidth=1.6, **style)


def by_batch(axis: Axes, rows: Sequence[Row], y: str, scale: float) -> None:
    same = {"load": "closed", "rule": "fixed"}
    cached = chosen(rows, "batch_size", cache="dual", **same)
    plain = chosen(rows, "batch_size", cache="none", **same)
    line(axis, cached, "batch_size", y, scale, "with a cache (dual)", color=BLUE, marker="o")
    line(axis, plain, "batch_size", y, scale, "without a cache", color="#666666", marker="^", linestyle="--")
    axis.set_xscale("log", base=2)
    sizes = [row["batch_size"] for row in cached]
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.set_xlabel("batch size (requests decoded together)")


def by_rate(axis: Axes, rows: Sequence[Row], y: str, scale: float) -> None:
    same = {"load": "open", "rule": "fixed", "cache": "dual"}
    batches = chosen(rows, "rate", mode="batch", **same)
    alone = chosen(rows, "rate", mode="streaming", **same)
    line(axis, batches, "rate", y, scale, "batches of 16", color=BLUE, marker="o")
    line(axis, alone, "rate", y, scale, "one at a time", color=ORANGE, marker="s")
    axis.set_xlabel("offered load (requests/s)")


def draw(rows: Sequence[Row], path: Path) -> None:
    """Four panels, legible at the README's width of some 800 pixels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.6), layout="constrained")
    (speed, served), (wait, waited) = figure.subplots(2, 2)
    panels: tuple[tuple[Callable[..., None], Axes, str, float, str], ...] = (
        (by_batch, speed, "request_throughput", 1, "answers per second"),
        (by_rate, served, "request_throughput", 1, "answers per second"),
        (by_batch, wait, "median_e2el_ms", 1e-3, "median time to an answer (s)"),
        (by_rate, waited, "median_e2el_ms", 1e-3, "median time to an answer (s)"),
    )
    for put, axis, measured, scale, label in panels:
        put(axis, rows, measured, scale)
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(fontsize=9, frameon=False)
    clients = chosen(rows, "batch_size", load="closed")[0]["concurrency"]
    speed.set_title(f"{clients} clients, each with one request at a time", fontsize=10)
    served.set_title("requests that come at random times", fontsize=10)
    most = served.get_xlim()[1]
    served.plot([0, most], [0, most], color="#bbbbbb", linewidth=1, linestyle=":", zorder=0)
    served.set_xlim(0, most)
    figure.savefig(path, dpi=200)


def main(argv: Sequence[str] | None = None) -> None:
    about = (__doc__ or "").split("\n\n")[0]
    p = argparse.ArgumentParser(prog="python -m benchmarks.batching", description=about)
    p.add_argument("--rows", type=Path, help="summary.parquet of the sweep, instead of running it")
    options = p.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        rows = keep(options.rows or measure(Path(folder) / "batching"))
    draw(rows, PICTURE)
    subprocess.run([sys.executable, "docs/tables.py"], cwd=ROOT, check=True)
    print(f"written: {DATA.relative_to(ROOT)}, {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    run_program(main)
