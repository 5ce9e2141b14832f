"""Results of other benchmarks as rows of ours, so that they stand in one table.

guidellm (its JSON report) and aiperf (its profile_export_aiperf.json). A column that the tool does not
report stays null. What their latencies mean is theirs to say: `source` tells the rows apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llada_exp.bench.rows import complete

Tree = Mapping[str, Any]


def read_foreign(path: Path) -> list[dict[str, Any]]:
    """The rows of a result file. Raises ValueError for a file of another kind."""
    try:
        tree = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error})") from None
    for recognises, reader in READERS:
        if isinstance(tree, dict) and recognises(tree):
            rows = reader(tree)
            return [complete({"point": path.stem, "sweep": path.stem, "repeats": 1, **row}) for row in rows]
    raise ValueError(f"{path}: neither a report of guidellm nor one of aiperf")


def _guidellm(tree: Tree) -> list[dict[str, Any]]:
    return [_guidellm_row(benchmark) for benchmark in tree["benchmarks"]]


def _guidellm_row(benchmark: Tree) -> dict[str, Any]:
    metrics, strategy = benchmark["metrics"], benchmark["config"]["strategy"]
    totals, seconds = metrics["request_totals"], benchmark["duration"]
    streams, rate = strategy.get("streams"), strategy.get("rate")
    row = {
        "source": "guidellm",
        "load": "closed" if streams else "open",
        "concurrency": streams,
        "rate": rate,
        "arrival": None if streams else strategy["type_"],
        "num_requests": totals["total"],
        "completed": totals["successful"],
        "failed": totals["errored"],
        "duration": seconds,
        "model": (benchmark["config"]["backend"] or {}).get("model"),
        "stream": (metrics["time_to_first_token_ms"]["successful"] or {}).get("count", 0) > 0,
        "total_input_tokens": _total(metrics, "prompt_token_count"),
        "total_output_tokens": _total(metrics, "output_token_count"),
        "request_throughput": totals["successful"] / seconds,
        "started": _time(benchmark["start_time"]),
        "ended": _time(benchmark["end_time"]),
    }
    if row["total_output_tokens"] is not None:
        row["output_throughput"] = row["total_output_tokens"] / seconds
        row["total_token_throughput"] = (
            row["total_output_tokens"] + (row["total_input_tokens"] or 0)
        ) / seconds
    for name, theirs, scale in (
        ("ttft", "time_to_first_token_ms", 1.0),
        ("tpot", "inter_token_latency_ms", 1.0),  # a mean over each answer
        ("e2el", "request_latency", 1000.0),
    ):
        spread = metrics[theirs]["successful"] or {}
        values = {"mean": spread.get("mean"), "std": spread.get("std_dev")}
        values |= {to: (spread.get("percentiles") or {}).get(of) for to, of in PERCENTILES.items()}
        measured = bool(spread.get("count"))
        row |= {f"{k}_{name}_ms": v * scale for k, v in values.items() if measured and v is not None}
    return row


PERCENTILES = {"median": "p50", "p90": "p90", "p99": "p99"}


def _total(metrics: Tree, name: str) -> int | None:
    spread = metrics[name]["successful"]
    return round(spread["total_sum"]) if spread and spread.get("count") else None


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _aiperf(tree: Tree) -> list[dict[str, Any]]:
    def value(name: str, stat: str = "avg") -> float | None:
        return (tree.get(name) or {}).get(stat)

    def count(name: str) -> int | None:
        number = value(name)
        return None if number is None else round(number)

    row: dict[str, Any] = {
        "source": "aiperf",
        "completed": count("request_count"),
        "failed": count("error_request_count") or 0,
        "duration": value("benchmark_duration"),
        "total_input_tokens": count("total_isl"),
        "total_output_tokens": count("total_osl"),
        "request_throughput": value("request_throughput"),
        "output_throughput": value("output_token_throughput"),
        "total_token_throughput": value("total_token_throughput"),
        "started": tree.get("start_time"),
        "ended": tree.get("end_time"),
        **_aiperf_load(tree.get("input_config") or {}),
    }
    names = (("ttft", "time_to_first_token"), ("itl", "inter_chunk_latency"), ("tpot", "inter_token_latency"),
             ("e2el", "request_latency"))  # fmt: skip
    stats = {"mean": "avg", "median": "p50", "p90": "p90", "p99": "p99", "std": "std"}
    row |= {
        f"{kind}_{name}_ms": value(theirs, stat) for name, theirs in names for kind, stat in stats.items()
    }
    return [row]


def _aiperf_load(config: Tree) -> dict[str, Any]:
    """What was asked of the profiling phase."""
    phase: Tree = next((p for p in config.get("phases") or () if p.get("kind") == "profiling"), {})
    models = (config.get("models") or {}).get("items") or [{}]
    rate = phase.get("rate") or phase.get("request_rate")
    return {
        "model": models[0].get("name"),
        "load": "open" if rate else "closed",
        "concurrency": phase.get("concurrency") if not rate else None,
        "rate": rate,
        "num_requests": phase.get("requests"),
        "stream": (config.get("endpoint") or {}).get("streaming"),
    }


READERS: tuple[tuple[Callable[[Tree], bool], Callable[[Tree], list[dict[str, Any]]]], ...] = (
    (lambda tree: "benchmarks" in tree and "metadata" in tree, _guidellm),
    (lambda tree: "request_latency" in tree and "request_count" in tree, _aiperf),
)
