"""What W&B gets of a measured point: latency histograms, its requests, and the sweep's picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llada_exp import jsonl
from llada_exp.bench.client import LoadResult
from llada_exp.bench.rows import request_row
from llada_exp.bench.soundness import is_sound

LATENCIES = ("ttft_ms", "tpot_ms", "e2el_ms")


def content(
    folder: Path, row: Mapping[str, Any], results: Sequence[LoadResult], log_text: bool, wandb: Any
) -> dict[str, Any]:
    """Of one finished point, whose folder this is. log_text: prompts and answers, too."""
    records = [(repeat, r) for repeat, result in enumerate(results) for r in result.records]
    logged: dict[str, Any] = {"throughput_latency": wandb.Image(str(_image(folder, row)))}
    for name in LATENCIES:
        values = [v for _, r in records if (v := getattr(r, name)) is not None]
        if values:
            logged[f"histogram/{name}"] = wandb.Histogram(values)
    return {**logged, "requests": _table(wandb, records, log_text)}


def _table(wandb: Any, records: Sequence[tuple[int, Any]], log_text: bool) -> Any:
    lines = [request_row(record, repeat) for repeat, record in records]
    names = [name for name in lines[0] if name not in ("itl_ms", "error")]
    data = [[line[name] for name in names] for line in lines]
    if log_text:
        names += ["prompt", "answer"]
        data = [[*d, r.prompt, r.text] for d, (_, r) in zip(data, records, strict=True)]
    return wandb.Table(columns=names, data=data)


def _image(folder: Path, row: Mapping[str, Any]) -> Path:
    """Throughput against latency: this point among those of its sweep that are finished."""
    from llada_exp.bench.plot import throughput_latency

    near = [r for path in folder.parent.glob("*/row.jsonl") for r in jsonl.read(path)]
    others = [r for r in near if r["sweep"] == row["sweep"] and r["point"] != row["point"] and is_sound(r)]
    path = folder / "throughput_latency.png"
    throughput_latency(others, row).savefig(path, dpi=150)
    return path
