"""/metrics: what requests became and what the workers do, in Prometheus' text format.

Requests are counted as they end; queue and workers are looked at when somebody asks. Names are
`llada_*`, seconds and tokens are base units; `monitoring/grafana.json` draws them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from llada_exp.server.processes.shared_state import READY
from llada_exp.server.state.request_facts import GENERATION_PATHS, OUTCOMES, RequestFacts

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 1000)
PASSES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
PER_PASS = (0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 32)
_COUNTERS = {
    # ours: (the engine's, what it is)
    "steps": ("num_steps", "Steps of the engine"),
    "nfe": ("num_nfe", "Forward passes, one for each row in a step"),
    "positions": ("num_positions", "Positions forwarded, padding included"),
    "logit_rows": ("num_logit_rows", "Positions whose logits were computed"),
    "prefix_blocks": ("num_prefix_blocks", "Whole blocks of prompts that might be shared"),
    "shared_prefix_blocks": ("num_shared_prefix_blocks", "Those that another request had computed"),
    "aborted": ("num_aborted", "Rows given up: their client left, or a step failed"),
    "out_of_memory": ("num_out_of_memory", "Steps that were split because the device's memory was full"),
}

Snapshot = Callable[[], Mapping[str, Any]]
"""queue, processing: counts; jobs: counters by event; info: labels; workers: id -> its last report."""


class Metrics:
    def __init__(self, snapshot: Snapshot) -> None:
        self.registry = CollectorRegistry()
        to: dict[str, Any] = {"registry": self.registry}
        by_path = {"labelnames": ("endpoint",), **to}
        self._requests = Counter("llada_requests", "Requests by outcome", ("endpoint", "outcome"), **to)
        self._e2el = Histogram("llada_e2el_seconds", "Arrival to end", buckets=SECONDS, **by_path)
        self._ttft = Histogram("llada_ttft_seconds", "Arrival to first text", buckets=SECONDS, **by_path)
        self._prompt = Counter("llada_prompt_tokens", "Tokens of prompts", **to)
        self._output = Counter("llada_output_tokens", "Tokens of answers, up to EOS or stop", **to)
        self._nfe = Histogram("llada_answer_nfe", "Forward passes of an answer", buckets=PASSES, **to)
        self._tpf = Histogram("llada_answer_tpf", "Tokens per forward pass", buckets=PER_PASS, **to)
        for path in GENERATION_PATHS:  # a rate needs the zero before the first
            for outcome in OUTCOMES:
                self._requests.labels(path, outcome)
        self.registry.register(_Live(snapshot))

    def count(self, facts: RequestFacts) -> None:
        """A request has ended."""
        assert facts.outcome is not None
        self._requests.labels(facts.path, facts.outcome).inc()
        self._prompt.inc(facts.prompt_tokens)
        self._output.inc(facts.output_tokens)
        if facts.outcome == "ok":
            self._e2el.labels(facts.path).observe(facts.e2el_s)
        if facts.ttft_s is not None:
            self._ttft.labels(facts.path).observe(facts.ttft_s)
        for done in facts.finished:
            self._nfe.observe(done["nfe"])
            self._tpf.observe(done["completion_tokens"] / max(done["nfe"], 1))

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Live(Collector):
    """Looks at queue and workers. A restarted worker's counters begin at 0 again, as Prometheus allows."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        now = self._snapshot()
        yield InfoMetricFamily("llada_server", "What is served", dict(now["info"]))
        yield GaugeMetricFamily("llada_queue_depth", "Answers that wait for a row", now["queue"])
        yield GaugeMetricFamily("llada_processing", "Answers being decoded", now["processing"])
        jobs = CounterMetricFamily("llada_jobs", "Answers (one for each choice) by event", labels=["event"])
        for event, count in now["jobs"].items():
            jobs.add_metric([event], count)
        yield jobs
        yield from _of_workers(now["workers"])


def _of_workers(workers: Mapping[int, Mapping[str, Any]]) -> Iterable[Metric]:
    up = GaugeMetricFamily("llada_worker_up", "Whether the worker is ready", labels=["worker"])
    rows = GaugeMetricFamily("llada_rows_in_flight", "Rows being decoded", labels=["worker"])
    useful = GaugeMetricFamily(
        "llada_useful_position_ratio", "Logit rows per position forwarded, since the start", labels=["worker"]
    )
    sizes = HistogramMetricFamily("llada_batch_size", "Rows in a step", labels=["worker"])
    counters = {
        name: CounterMetricFamily(f"llada_{name}", text, labels=["worker"])
        for name, (_, text) in _COUNTERS.items()
    }
    for worker, state in workers.items():
        label, engine = [str(worker)], state.get("engine") or {}
        up.add_metric(label, state["state"] == READY)
        rows.add_metric(label, engine.get("rows_in_flight", 0))
        useful.add_metric(label, engine.get("useful_position_ratio", 0.0))
        counts = {int(k): v for k, v in (engine.get("batch_size_histogram") or {}).items()}
        sizes.add_metric(label, _buckets(counts), sum(k * v for k, v in counts.items()))
        for name, (theirs, _) in _COUNTERS.items():
            counters[name].add_metric(label, engine.get(theirs, 0))
    return [up, rows, useful, sizes, *counters.values()]


def _buckets(counts: Mapping[int, int]) -> list[tuple[str, float]]:
    """Cumulative counts at the powers of two."""
    bounds = [2**i for i in range(13)]
    below = [(f"{b:.1f}", float(sum(n for k, n in counts.items() if k <= b))) for b in bounds]
    return [*below, ("+Inf", float(sum(counts.values())))]
