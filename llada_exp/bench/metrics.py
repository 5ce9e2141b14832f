"""From the records of one load to its measures, in vLLM's names. Pure arithmetic.

A measure that cannot be known is None, never 0.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llada_exp.bench.client import LoadResult, RequestRecord
from llada_exp.runs.statistics import proportion

LATENCIES = ("ttft", "tpot", "itl", "e2el")
SUMMARIES = ("mean", "median", "p90", "p99", "std")
SPREAD_OF = ("request_throughput", "output_throughput", "median_ttft_ms", "median_tpot_ms", "median_e2el_ms",
             "p99_e2el_ms", "accuracy")  # fmt: skip
"""Measures whose standard deviation over repeats is reported, as `<name>_spread`."""
SUMS = ("completed", "failed", "workers_lost", "num_correct", "total_input_tokens", "total_output_tokens")
"""Measures that are added up over repeats; the others are averaged."""
LATE_MS, LATE_SHARE = 5.0, 0.1
"""The generator was late where its 99th percentile lag is above so many ms and such a share of the
median latency."""


def summarise(result: LoadResult, goodput: Mapping[str, float]) -> dict[str, Any]:
    """The measures of one load. goodput: limits in ms by `ttft_ms`, `tpot_ms`, `e2el_ms`."""
    good = [r for r in result.records if r.ok]
    seconds = result.duration or math.nan
    tokens_in, tokens_out = (_total(good, name) for name in ("prompt_tokens", "output_tokens"))
    nfe = [r.cost["nfe"] for r in good if "nfe" in r.cost]
    measures: dict[str, Any] = {
        "completed": len(good),
        "failed": len(result.records) - len(good),
        "failed_share": failed_share(result.records),
        "duration": result.duration,
        "total_input_tokens": tokens_in,
        "total_output_tokens": tokens_out,
        "request_throughput": len(good) / seconds,
        "output_throughput": None if tokens_out is None else tokens_out / seconds,
        "total_token_throughput": (
            None if tokens_in is None or tokens_out is None else (tokens_in + tokens_out) / seconds
        ),
        "request_goodput": sum(_keeps(r, goodput) for r in good) / seconds if goodput else None,
    }
    for name in LATENCIES:
        values = [v for r in good for v in _latency(r, name)]
        measures |= {f"{kind}_{name}_ms": value for kind, value in spread(values).items()}
    measures |= {
        "nfe": statistics.fmean(nfe) if nfe else None,
        "tpf": tokens_out / sum(nfe) if nfe and tokens_out is not None and len(nfe) == len(good) else None,
        "positions_per_token": _ratio([r.cost.get("num_positions") for r in good], tokens_out),
        "mean_queue_ms": _mean([r.cost.get("queue_ms") for r in good]),
    }
    return measures | _accuracy(good) | _lag(result, measures)


def failed_share(records: Sequence[RequestRecord]) -> float | None:
    """Of the requests that were sent, how many were not answered whole; None where none was sent."""
    return sum(not r.ok for r in records) / len(records) if records else None


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """mean, median, p90, p99 and std; all None where there is nothing."""
    if not values:
        return dict.fromkeys(SUMMARIES)
    data = np.asarray(values, dtype=np.float64)
    p50, p90, p99 = np.percentile(data, [50, 90, 99])
    figures = (data.mean(), p50, p90, p99, data.std())
    return dict(zip(SUMMARIES, map(float, figures), strict=True))


def over_repeats(repeats: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One point's measures: counts and times summed, the others averaged over repeats; the standard
    deviation of `SPREAD_OF` beside them, None for a single repeat."""
    assert repeats
    joined: dict[str, Any] = {}
    for name in repeats[0]:
        values = [repeat[name] for repeat in repeats if repeat[name] is not None]
        if name in SUMS:
            joined[name] = sum(values) if values else None
        elif isinstance(repeats[0][name], bool):
            joined[name] = any(values)
        elif name.startswith("max_") or name == "peak_memory_mb":
            joined[name] = max(values) if values else None
        else:
            joined[name] = statistics.fmean(values) if values else None
        if name in SPREAD_OF:
            joined[f"{name}_spread"] = statistics.stdev(values) if len(values) > 1 else None
    if sent := joined["completed"] + joined["failed"]:
        joined["failed_share"] = joined["failed"] / sent
    if joined["num_correct"] is not None:
        joined |= _interval(joined["num_correct"], joined["completed"])
    return joined


def _interval(num_correct: int, n: int) -> dict[str, Any]:
    share = proportion([True] * num_correct + [False] * (n - num_correct))
    return {"accuracy": share.value, "accuracy_low": share.low, "accuracy_high": share.high}


def _accuracy(good: Sequence[RequestRecord]) -> dict[str, Any]:
    scored = [r.correct for r in good if r.correct is not None]
    if not scored or len(scored) < len(good):
        return dict.fromkeys(("num_correct", "accuracy", "accuracy_low", "accuracy_high"))
    return {"num_correct": sum(scored), **_interval(sum(scored), len(scored))}


def _lag(result: LoadResult, measures: Mapping[str, Any]) -> dict[str, Any]:
    lags = [r.lag_ms for r in result.records]
    p99 = spread(lags)["p99"]
    loop = spread(result.loop_lag_ms)["p99"]
    worst = max(p99 or 0.0, loop or 0.0)
    typical = measures["median_ttft_ms"] or measures["median_e2el_ms"] or 0.0
    return {
        "p99_lag_ms": p99,
        "max_lag_ms": max(lags, default=None),
        "p99_loop_lag_ms": loop,
        "generator_late": worst > LATE_MS and worst > LATE_SHARE * typical,
    }


def _latency(record: RequestRecord, name: str) -> Sequence[float]:
    if name == "itl":
        return record.itl_ms
    value = getattr(record, f"{name}_ms")
    return () if value is None else (value,)


def _keeps(record: RequestRecord, goodput: Mapping[str, float]) -> bool:
    """A latency that has no value (of an answer of one token) breaks no limit."""
    return all((getattr(record, name) or 0.0) <= limit for name, limit in goodput.items())


def _total(records: Sequence[RequestRecord], name: str) -> int | None:
    values = [getattr(r, name) for r in records]
    return None if None in values else sum(values)


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [v for v in values if v is not None]
    return statistics.fmean(numbers) if numbers else None


def _ratio(values: Sequence[float | None], total: int | None) -> float | None:
    numbers = [v for v in values if v is not None]
    return sum(numbers) / total if total and numbers and len(numbers) == len(values) else None
