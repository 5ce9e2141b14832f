"""One measured point: start or find the server, load it, write rows, stop what was started."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from llada_exp.bench.client import LoadResult, RequestRecord, judge, run_load
from llada_exp.bench.metrics import over_repeats, summarise
from llada_exp.bench.rows import PointFolder
from llada_exp.bench.settings import BenchSettings, Load
from llada_exp.bench.turn import turn
from llada_exp.bench.workload import build
from llada_exp.runs import decoding_columns, status
from llada_exp.runs.probe import Probe, batch_stats
from llada_exp.runs.progress import progress
from llada_exp.runs.provenance import provenance
from llada_exp.runs.servers import Endpoint, endpoint
from llada_exp.scoring import Scorer


def measure(
    settings: BenchSettings, point: PointFolder, overrides: Sequence[str]
) -> tuple[dict[str, Any], list[LoadResult]]:
    """The point's row and its loads, written into its folder. Raises RuntimeError where the server does
    not start or nothing is answered."""
    started = status.now()
    measured: list[dict[str, Any]] = []
    results: list[LoadResult] = []
    with (
        contextlib.closing(point),
        Scorer() as scorer,
        turn(settings.exclusive, point=point.folder) as presence,
        endpoint(settings.url, settings.server_tree, point.folder) as target,
        progress(settings.load.num_requests * settings.load.repeats, "req") as tick,
    ):
        _warm_up(settings, target)
        for repeat in range(settings.load.repeats):

            def done(record: RequestRecord, repeat: int = repeat) -> None:
                point.add_request(record, repeat)
                tick()

            probe = Probe(target.url, target.local)
            result = _load(settings, target, settings.load, done)
            server_measures = probe.measures()
            if late := judge(result.records, scorer):
                point.add_verdicts(late, repeat)
            measures = {**summarise(result, settings.goodput), **server_measures}
            measures["overlapped"] = presence.overlapped()
            point.add_repeat(measures, result.records, repeat)
            _check(result)
            measured.append(measures)
            results.append(result)
        origin = provenance("bench", overrides, target.url, target.local)
        stats = batch_stats(target.url) if not target.local else {}
    row = {
        **configured(settings, target, stats, results[0].records),
        "point": point.folder.name,
        **_joined(measured),
        **origin,
        "started": started,
        "ended": status.now(),
    }
    return point.finish(row), results


def _joined(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    kinds = {m["memory_kind"] for m in measured}
    numbers = [{k: v for k, v in m.items() if k != "memory_kind"} for m in measured]
    return {**over_repeats(numbers), "memory_kind": kinds.pop() if len(kinds) == 1 else None}


def _warm_up(settings: BenchSettings, target: Endpoint) -> None:
    """Not measured, and must succeed: it finds out what a request is refused for."""
    num = settings.load.warmup
    if num:
        load = replace(
            settings.load, num_requests=num, duration=None, rate=None, concurrency=min(num, 16), stream=False
        )
        _check(_load(settings, target, load, lambda record: None))


def _load(
    settings: BenchSettings, target: Endpoint, load: Load, done: Callable[[RequestRecord], None]
) -> LoadResult:
    prompts = build(settings.workload, load.num_requests)
    request = {"model": target.model, **settings.request}  # servers of other makes insist on it
    return run_load(target.url, prompts, load, request, settings.workload["seed"], done)


def _check(result: LoadResult) -> None:
    if not any(record.ok for record in result.records):
        first = result.records[0] if result.records else None
        why = f"{first.status}: {first.error}" if first else "none was sent"
        raise RuntimeError(f"none of {len(result.records)} requests was answered ({why})")


def configured(
    settings: BenchSettings, target: Endpoint, stats: Mapping[str, Any], records: Sequence[RequestRecord]
) -> dict[str, Any]:
    """The columns that say what was measured. stats: /batch/stats of a server that is not ours."""
    server, load = settings.server, settings.load
    decoding = next((dict(r.decoding) for r in records if r.decoding), dict(settings.request))
    lengths = {r.decoding.get("max_tokens") for r in records if r.decoding}
    if not lengths:
        lengths = {p.fields.get("max_tokens") for p in build(settings.workload, min(len(records), 1000))}
    kind = settings.workload["kind"]
    return {
        "source": "llada_exp",
        "sweep": settings.name,
        "config_hash": settings.config_hash,
        "model": target.model,
        "model_path": server.model.path if server else None,
        "mode": server.mode if server else stats.get("mode"),
        "batch_size": server.batch_size if server else stats.get("max_batch_size"),
        "max_wait_time": server.max_wait_time if server else stats.get("max_wait_time"),
        "workers": server.workers if server else None,
        "dtype": server.dtype if server else None,
        "scheduling": "continuous" if server else None,
        **decoding_columns.values(decoding),
        "max_tokens": settings.request.get("max_tokens") or (lengths.pop() if len(lengths) == 1 else None),
        "workload": f"tiny_{settings.workload['problems']}" if kind == "tiny" else kind,
        "load": "closed" if load.rate is None else "open",
        "concurrency": load.concurrency,
        "rate": None if load.rate in (None, float("inf")) else load.rate,
        "arrival": None if load.rate is None else load.arrival,
        **{n: asdict(load)[n] for n in ("num_requests", "stream", "repeats")},
    }  # fmt: skip
