"""The benchmark's configuration as typed, checked values: what `conf/bench.yaml` composes to.

Every error is a ValueError that names the key, the value and what is allowed. Knows no Hydra, no HTTP
and no server: a plain mapping will do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from llada_exp import decoding_keys
from llada_exp.clients.http import KEY_VARIABLE, base_url
from llada_exp.runs.identity import config_hash
from llada_exp.runs.servers import NOT_THE_SERVERS, SERVER_KEYS, check_requests
from llada_exp.runs.settings import TRACKING_KEYS, Tracking
from llada_exp.settings import ServeSettings, serve_keys, validate
from llada_exp.types import REQUEST_FIELDS
from llada_exp.validation import (
    Flag,
    FolderName,
    Keys,
    Seconds,
    between,
    check_keys,
    read_fields,
    read_key,
    says,
    that,
)

Arrival = Literal["poisson", "constant", "burst"]
ARRIVALS = get_args(Arrival)
Clients = Annotated[int, between(1, 65536)]
GOODPUT_FIELDS = ("ttft_ms", "tpot_ms", "e2el_ms")
_SEED = Annotated[int, between(0, 2**31)]
_LENGTH = Annotated[int, between(1, 2**20)]
_SIGMA = Annotated[float, between(0.0, 5.0)]
_VOCAB = Annotated[
    tuple[int, int],
    that(lambda ends: 0 <= ends[0] < ends[1]),
    says("[low, high] with 0 <= low < high"),
]
WORKLOADS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {"problems": Literal["short", "long"], "seed": _SEED},
    "fixed": {"input_len": _LENGTH, "output_len": _LENGTH, "vocab": _VOCAB, "seed": _SEED},
    "mixed": {
        "input_median": _LENGTH, "input_sigma": _SIGMA, "input_max": _LENGTH,
        "output_median": _LENGTH, "output_sigma": _SIGMA, "output_max": _LENGTH,
        "vocab": _VOCAB, "seed": _SEED,
    },
    "jsonl": {
        "path": Annotated[str, that(lambda path: Path(path).is_file()), says("a file of JSON lines")],
        "seed": _SEED,
    },
}  # fmt: skip
"""Kind -> its keys, and what each may be."""
ENDLESS = 2**31


@dataclass(frozen=True)
class Load:
    """concurrency: of a closed loop, None for an open one; rate: requests a second of an open loop,
    None for a closed one; duration: seconds after which nothing new is sent; timeout: the client's."""

    concurrency: Clients | None
    rate: Annotated[float, says("requests per second, above 0 (inf = all at once)", strict=True, gt=0)] | None
    arrival: Arrival
    burst_size: Annotated[int, between(1, 65536)]
    num_requests: Annotated[int, between(1, ENDLESS)]
    duration: Seconds | None
    warmup: Annotated[int, between(0, 65536)]
    repeats: Annotated[int, between(1, 1000)]
    stream: Flag
    timeout: Seconds


@dataclass(frozen=True)
class BenchSettings:
    """One measured point. server: what its server is started with, None where `url` is given; request:
    decoding fields of every request; max_failed: share of the requests of a repeat that may fail."""

    name: FolderName
    url: str | None
    server: ServeSettings | None
    server_tree: Mapping[str, Any]
    workload: Mapping[str, Any]
    load: Load
    request: Mapping[str, Any]
    goodput: Mapping[str, float]
    max_failed: Annotated[float, between(0.0, 1.0)]
    tracking: Tracking
    exclusive: Flag
    vllm_json: Flag
    resume: Flag
    dry_run: Flag
    config_hash: str


def bench_keys() -> tuple[str, ...]:
    """Every key of conf/bench.yaml, dotted, as one may override it."""
    dotted = [f"decoding.{n}" for n in REQUEST_FIELDS] + [f"goodput.{n}" for n in GOODPUT_FIELDS]
    dotted += [f"workload.{n}" for names in WORKLOADS.values() for n in names]
    dotted += [f"tracking.{n}" for n in TRACKING_KEYS]
    return tuple(dict.fromkeys((*serve_keys(), *KEYS, *dotted)))


LOAD_KEYS = tuple(f.name for f in fields(Load))
KEYS = ("name", "url", "workload", "tracking", "goodput", *LOAD_KEYS,
        "max_failed", "exclusive", "vllm_json", "resume", "dry_run")  # fmt: skip


def validate_bench(cfg: Mapping[str, Any]) -> BenchSettings:
    """The point that a composed config stands for. Raises ValueError naming key, value and choices."""
    tree = check_keys(cfg, (*SERVER_KEYS, *KEYS), moved=decoding_keys.MOVED_OF_BENCH)
    server_tree = {key: tree[key] for key in SERVER_KEYS if key != decoding_keys.DECODING}
    url = None if tree["url"] is None else base_url(tree["url"])
    if tree["api_key_file"] is not None:  # or every request of the load would be a 401
        raise ValueError(f"api_key_file is set; a benchmark and its server take the key from {KEY_VARIABLE}")
    server = validate({**server_tree, decoding_keys.DECODING: {}}) if url is None else None
    workload = _workload(tree["workload"])
    request = decoding_keys.request_fields(tree.child(decoding_keys.DECODING, REQUEST_FIELDS))
    check_requests(request, server)
    concurrency = read_key(tree, "concurrency", Clients) if tree["rate"] is None else None
    return read_fields(
        BenchSettings,
        tree,
        url=url,
        server=server,
        server_tree={k: v for k, v in server_tree.items() if k not in NOT_THE_SERVERS},
        workload=workload,
        load=read_fields(Load, tree, concurrency=concurrency),
        request=request,
        goodput=_goodput(tree.child("goodput", GOODPUT_FIELDS)),
        config_hash=config_hash(tree, remote=url is not None),
    )


def _workload(tree: Any) -> dict[str, Any]:
    kind: Any = tree.get("kind") if isinstance(tree, Mapping) else None
    if kind not in WORKLOADS:
        raise ValueError(f"workload.kind is {kind!r}; expected one of {', '.join(WORKLOADS)}")
    values = check_keys(tree, ("kind", *WORKLOADS[kind]), "workload")
    for name, hint in WORKLOADS[kind].items():
        read_key(values, name, hint)
    return values


def _goodput(tree: Keys) -> dict[str, float]:
    limits = {key: read_key(tree, key, Annotated[float, between(0.0, 1e9)] | None) for key in tree}
    return {key: limit for key, limit in limits.items() if limit is not None}
