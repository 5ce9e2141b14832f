"""The columns of result rows: one schema for our own measurements and for other tools' results.

VERSION changes when a column changes its name, type or meaning; a new column alone is no change. The
schema is written beside the rows, and docs/data/columns.csv lists it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from llada_exp.bench.metrics import LATENCIES, SPREAD_OF, SUMMARIES
from llada_exp.runs import decoding_columns
from llada_exp.runs.files import Column, columns

VERSION = 1

_LATENCY_MEANING = {
    "ttft": "from sending to the first chunk that carries text; streamed only",
    "tpot": "(e2el - ttft) / (output tokens - 1) of a request; streamed only",
    "itl": "between two chunks that carry text; streamed only",
    "e2el": "from sending to the end of the answer",
}
_SUMMARY_MEANING = {"mean": "mean", "median": "median", "p90": "90th percentile", "p99": "99th percentile",
                    "std": "standard deviation over requests"}  # fmt: skip
_CONFIGURED = columns(
    ("schema_version", "integer", "version of these columns"),
    ("source", "text", "what measured: llada_exp, guidellm or aiperf"),
    ("sweep", "text", "the key `name`: the folder under outputs/bench/"),
    ("point", "text", "folder of the point inside the sweep; the sweep's name for a single run"),
    ("config_hash", "text", "of every key that changes what is measured"),
    ("model", "text", "name of the served model"),
    ("model_path", "text", "folder or hub id of its weights; null for the embedded model"),
    ("mode", "text", "batch or streaming"),
    ("batch_size", "integer", "rows decoded together, at most"),
    ("max_wait_time", "number", "seconds the first request waits for others"),
    ("workers", "integer", "worker processes per device"),
    ("dtype", "text", "as configured"),
    ("scheduling", "text", "continuous; lockstep in rows of before"),
)
_LOADED = columns(
    ("workload", "text", "its kind, and for tiny the kind of problems"),
    ("load", "text", "closed or open loop"),
    ("concurrency", "integer", "requests in flight in a closed loop"),
    ("rate", "number", "requests per second offered in an open loop; null = all at once"),
    ("arrival", "text", "pattern of an open loop"),
    ("num_requests", "integer", "requests asked for, per repeat"),
    ("stream", "flag", "whether answers were streamed"),
    ("repeats", "integer", "times that the load was run"),
)
_LATENCY_COLUMNS = tuple(
    Column(f"{kind}_{name}_ms", "number", f"ms, {_SUMMARY_MEANING[kind]}: {_LATENCY_MEANING[name]}")
    for name in LATENCIES
    for kind in SUMMARIES
)
_MEASURED = (
    *columns(
        ("completed", "integer", "requests answered whole, over all repeats"),
        ("failed", "integer", "requests that were not, over all repeats"),
        ("failed_share", "number", "their share of those that were sent"),
        ("problem", "text", "why the point counts as failed, though it has measures; null for a good one"),
        ("duration", "number", "s, from the start to the last answer, per repeat"),
        ("total_input_tokens", "integer", "prompt tokens of completed requests, over all repeats"),
        ("total_output_tokens", "integer", "answer tokens up to EOS or stop, over all repeats"),
        ("request_throughput", "number", "completed requests per second"),
        ("output_throughput", "number", "answer tokens per second"),
        ("total_token_throughput", "number", "prompt and answer tokens per second"),
        ("request_goodput", "number", "completed requests per second that kept the limits of `goodput`"),
    ),
    *_LATENCY_COLUMNS,
    *columns(
        ("nfe", "number", "forward passes in which a request took part, mean"),
        ("tpf", "number", "answer tokens per forward pass, ratio of sums"),
        ("positions_per_token", "number", "positions forwarded per answer token"),
        ("mean_queue_ms", "number", "ms, from the engine's queue to the first pass, mean"),
        ("workers_lost", "integer", "workers that died during the load, and were started anew"),
        ("num_steps", "integer", "steps of the engine during the load, mean over repeats"),
        ("mean_batch_size", "number", "requests in a step, mean"),
        ("useful_position_ratio", "number", "masked positions among those forwarded"),
        ("num_correct", "integer", "completed requests answered rightly, over all repeats"),
        ("accuracy", "number", "their share of the completed ones"),
        ("accuracy_low", "number", "lower end of its 95 % Wilson interval"),
        ("accuracy_high", "number", "upper end of its 95 % Wilson interval"),
        ("peak_memory_mb", "number", "MiB of all workers: resident peak, or held on the GPU"),
        ("memory_kind", "text", "resident or gpu"),
        ("energy_j", "number", "J drawn by the GPUs in use during the load"),
        ("p99_lag_ms", "number", "ms, how late the client sent a request, 99th percentile"),
        ("max_lag_ms", "number", "ms, the same, worst"),
        ("p99_loop_lag_ms", "number", "ms, how late the client's own timer fired, 99th percentile"),
        ("generator_late", "flag", "the client was so late that its latencies are not to be trusted"),
        ("overlapped", "flag", "another point was measured on this host meanwhile"),
    ),
    *(
        Column(f"{name}_spread", "number", f"standard deviation of {name} over repeats; null for one repeat")
        for name in SPREAD_OF
    ),
)
_ORIGIN = columns(
    ("started", "text", "UTC, ISO 8601"),
    ("ended", "text", "UTC, ISO 8601"),
    ("command", "text", "makes the row again"),
    ("commit", "text", "of the code"),
    ("dirty", "flag", "whether files differed from the commit"),
    ("host", "text", "where the client ran"),
    ("device_name", "text", "GPU, or processor and its cores"),
    ("python_version", "text", ""),
    ("llada_exp_version", "text", ""),
    ("torch_version", "text", ""),
    ("transformers_version", "text", ""),
    ("litserve_version", "text", ""),
)
ROW = (*_CONFIGURED, *decoding_columns.COLUMNS, *_LOADED, *_MEASURED, *_ORIGIN)
"""A point: `row.parquet`, and a line of a sweep's `summary.parquet`."""

REQUEST = columns(
    ("repeat", "integer", "from 0"),
    ("index", "integer", "place in the load"),
    ("scheduled_s", "number", "s from the start: when it was to be sent"),
    ("sent_s", "number", "s from the start: when it was"),
    ("ended_s", "number", "s from the start: when its answer ended or failed"),
    ("lag_ms", "number", "sent_s - scheduled_s"),
    ("ok", "flag", "answered whole"),
    ("status", "integer", "of HTTP; null without an answer"),
    ("error", "text", "what went wrong"),
    ("finish_reason", "text", "stop or length"),
    ("prompt_tokens", "integer", "as the server counts them"),
    ("output_tokens", "integer", "as the server counts them"),
    ("ttft_ms", "number", _LATENCY_MEANING["ttft"]),
    ("tpot_ms", "number", _LATENCY_MEANING["tpot"]),
    ("e2el_ms", "number", _LATENCY_MEANING["e2el"]),
    ("itl_ms", "numbers", _LATENCY_MEANING["itl"]),
    ("nfe", "integer", "forward passes"),
    ("num_positions", "integer", "positions forwarded"),
    ("queue_ms", "number", "in the engine's queue"),
    ("seed", "integer", "of its random numbers"),
    ("correct", "flag", "where the right answer is known"),
)
"""A request: `requests.parquet`."""

COMMIT = columns(
    ("repeat", "integer", "from 0"),
    ("index", "integer", "of the request"),
    ("step", "integer", "pass of the request, from 0"),
    ("passes", "integer", "of the request, those that committed nothing included"),
    ("position", "integer", "in the answer, from 0"),
    ("block", "integer", "position // block_length"),
    ("token_id", "integer", "null where one is taken back"),
    ("token", "text", "its text; empty for an end of text, null where the server does not say"),
    ("confidence", "number", "probability of the candidate when it was committed"),
    ("revoked", "flag", "the pass took the position's token back: a mask again"),
    ("rule", "text", "commit rule of the request"),
    ("cache", "text", "cache of the request"),
    ("refresh", "text", "refresh policy of the request"),
    ("decoding", "text", "all its parameters, JSON"),
    ("question", "text", "what was asked"),
    ("answer", "text", "the whole answer"),
)
"""A token that was committed or taken back: `commits.parquet`, where `decoding.trace=true`."""


def describe() -> dict[str, Any]:
    """The content of schema.json."""
    tables = {"row": ROW, "request": REQUEST, "commit": COMMIT}
    return {"version": VERSION, **{name: [asdict(c) for c in table] for name, table in tables.items()}}
