"""The benchmark's configuration as typed, checked values: what `conf/bench.yaml` composes to.

Every error is a ValueError that names the key, the value and what is allowed. Knows no Hydra, no HTTP
and no server: a plain mapping will do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from llada_exp import decoding_keys
from llada_exp.clients.http import KEY_VARIABLE, base_url
from llada_exp.runs.identity import config_hash
from llada_exp.runs.servers import NOT_THE_SERVERS, SERVER_KEYS, check_requests
from llada_exp.runs.settings import (
    TRACKING_KEYS,
    Tracking,
    read_flag,
    read_name,
    read_tracking,
)
from llada_exp.settings import Node, ServeSettings, known_keys, validate
from llada_exp.types import REQUEST_FIELDS

ARRIVALS = ("poisson", "constant", "burst")
GOODPUT_FIELDS = ("ttft_ms", "tpot_ms", "e2el_ms")
WORKLOADS = {
    "tiny": ("problems", "seed"),
    "fixed": ("input_len", "output_len", "vocab", "seed"),
    "mixed": ("input_median", "input_sigma", "input_max", "output_median", "output_sigma", "output_max",
              "vocab", "seed"),
    "jsonl": ("path", "seed"),
}  # fmt: skip
ENDLESS = 2**31


@dataclass(frozen=True)
class Load:
    """concurrency: of a closed loop, None for an open one; rate: requests a second of an open loop,
    None for a closed one; duration: seconds after which nothing new is sent; timeout: the client's."""

    concurrency: int | None
    rate: float | None
    arrival: str
    burst_size: int
    num_requests: int
    duration: float | None
    warmup: int
    repeats: int
    stream: bool
    timeout: float


@dataclass(frozen=True)
class BenchSettings:
    """One measured point. server: what its server is started with, None where `url` is given; request:
    decoding fields of every request."""

    name: str
    url: str | None
    server: ServeSettings | None
    server_tree: Mapping[str, Any]
    workload: Mapping[str, Any]
    load: Load
    request: Mapping[str, Any]
    goodput: Mapping[str, float]
    tracking: Tracking
    exclusive: bool
    vllm_json: bool
    resume: bool
    dry_run: bool
    config_hash: str


def bench_keys() -> tuple[str, ...]:
    """Every key of conf/bench.yaml, dotted, as one may override it."""
    dotted = [f"decoding.{n}" for n in REQUEST_FIELDS] + [f"goodput.{n}" for n in GOODPUT_FIELDS]
    dotted += [f"workload.{n}" for names in WORKLOADS.values() for n in names]
    dotted += [f"tracking.{n}" for n in TRACKING_KEYS]
    return tuple(dict.fromkeys((*known_keys(), *KEYS, *dotted)))


LOAD_KEYS = tuple(f.name for f in fields(Load))
FLAGS = ("exclusive", "vllm_json", "resume", "dry_run")
KEYS = ("name", "url", "workload", "tracking", "goodput", *LOAD_KEYS, *FLAGS)


def validate_bench(cfg: Mapping[str, Any]) -> BenchSettings:
    """The point that a composed config stands for. Raises ValueError naming key, value and choices."""
    tree = Node(cfg, "", (*SERVER_KEYS, *KEYS), decoding_keys.MOVED_OF_BENCH)
    own_server = {key: tree[key] for key in SERVER_KEYS if key != decoding_keys.DECODING}
    url = None if tree["url"] is None else base_url(tree["url"])
    if tree["api_key_file"] is not None:  # or every request of the load would be a 401
        raise ValueError(f"api_key_file is set; a benchmark and its server take the key from {KEY_VARIABLE}")
    server = validate({**own_server, decoding_keys.DECODING: {}}) if url is None else None
    workload = _workload(tree["workload"])
    request = decoding_keys.request_fields(tree.child(decoding_keys.DECODING, REQUEST_FIELDS).tree)
    check_requests(request, server)
    return BenchSettings(
        name=read_name(tree, "name"),
        url=url,
        server=server,
        server_tree={k: v for k, v in own_server.items() if k not in NOT_THE_SERVERS},
        workload=workload,
        load=_load(tree),
        request=request,
        goodput=_goodput(tree.child("goodput", GOODPUT_FIELDS)),
        tracking=read_tracking(tree.child("tracking", TRACKING_KEYS)),
        **{flag: read_flag(tree, flag) for flag in FLAGS},
        config_hash=config_hash(tree.tree, remote=url is not None),
    )


def _load(tree: Node) -> Load:
    rate = tree["rate"]
    closed = rate is None
    if not closed:
        good = isinstance(rate, int | float) and not isinstance(rate, bool)
        if not good or not rate > 0:
            raise ValueError(f"rate is {rate!r}; expected requests per second, above 0 (inf = all at once)")
    duration = None if tree["duration"] is None else tree.number("duration", 0.001, 7 * 86400.0)
    return Load(
        concurrency=tree.integer("concurrency", 1, 65536) if closed else None,
        rate=None if closed else float(rate),
        arrival=tree.one_of("arrival", ARRIVALS),
        burst_size=tree.integer("burst_size", 1, 65536),
        num_requests=tree.integer("num_requests", 1, ENDLESS),
        duration=duration,
        warmup=tree.integer("warmup", 0, 65536),
        repeats=tree.integer("repeats", 1, 1000),
        stream=read_flag(tree, "stream"),
        timeout=tree.number("timeout", 0.001, 7 * 86400.0),
    )


def _workload(value: Any) -> dict[str, Any]:
    kind = value.get("kind") if isinstance(value, Mapping) else None
    if kind not in WORKLOADS:
        raise ValueError(f"workload.kind is {kind!r}; expected one of {', '.join(WORKLOADS)}")
    node = Node(value, "workload", ("kind", *WORKLOADS[kind]))
    node.integer("seed", 0, 2**31)
    if kind == "tiny":
        node.one_of("problems", ("short", "long"))
    elif kind == "jsonl":
        path = node["path"]
        if not isinstance(path, str) or not Path(path).is_file():
            raise ValueError(f"workload.path is {path!r}; expected a file of JSON lines")
    else:
        lengths = [n for n in WORKLOADS[kind] if n.endswith(("_len", "_median", "_max"))]
        for name in lengths:
            node.integer(name, 1, 2**20)
        for name in (n for n in WORKLOADS[kind] if n.endswith("_sigma")):
            node.number(name, 0.0, 5.0)
        low_high = node["vocab"]
        good = isinstance(low_high, list | tuple) and len(low_high) == 2
        if not good or not all(isinstance(v, int) for v in low_high) or not 0 <= low_high[0] < low_high[1]:
            raise ValueError(f"workload.vocab is {low_high!r}; expected [low, high] with 0 <= low < high")
    return dict(node.tree)


def _goodput(node: Node) -> dict[str, float]:
    return {k: node.number(k, 0.0, 1e9) for k in GOODPUT_FIELDS if node.tree.get(k) is not None}
