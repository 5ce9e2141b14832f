"""The server's configuration as typed, checked values.

Hydra composes `conf/serve.yaml`; `validate` turns the composed tree into `ServeSettings`, by the annotations
of the fields, or raises a ValueError that names the key, the value and what is allowed. (`__post_init__` of a
structured config does not run under Hydra, so nothing is left to it.) Knows no torch, no HTTP and no Hydra: a
plain mapping will do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from llada_exp import decoding_keys
from llada_exp.help import help_line
from llada_exp.types import PRESET_FIELDS, DecodingParams
from llada_exp.validation import (
    Flag,
    Keys,
    Seconds,
    Text,
    between,
    check_keys,
    nearest,
    read_fields,
    read_key,
    unknown_key_message,
)

REPLICAS = "replicas"
PLAN = "plan"
PLAN_KEYS = (PLAN, "plan.prompt_length", "plan.max_tokens")
MODEL_KEYS = ("source", "path", "base", "name")
"""Of every model; what else `model` holds is its family's."""


@dataclass(frozen=True)
class ModelSettings:
    """source: where weights come from; path: folder or hub id; base: config and tokenizer of a dcp
    checkpoint; name: what /v1/models calls it; settings: all other keys of `model`, which the checkpoint's
    family reads beside its config.json (`mask_token_id`, `block_length`), and refuses if it has none such."""

    source: Literal["tiny", "hf", "dcp"]
    path: Text | None
    base: Text | None
    name: Text
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HttpSettings:
    """extra_fields: reject or ignore unknown request fields; drain_seconds: how long a stopping server
    finishes what is in flight; hang_seconds: a worker silent for longer is killed (0: never);
    log_prompts: requests' texts in the log; read_seconds: in which a request's head is to come, and each MiB
    of its body; max_connections: open at once.

    What is beyond a limit is refused: max_body_mb, max_headers, max_messages (of a chat), max_prompt_tokens
    (None: the model's limit alone), max_queue (answers that wait for a row; 0: no limit), max_time (seconds
    a request may take that names no other limit; None: no limit)."""

    extra_fields: Literal["reject", "ignore"]
    drain_seconds: Annotated[float, between(0.0, 86400.0)]
    hang_seconds: Annotated[float, between(0.0, 86400.0)]
    max_body_mb: Annotated[int, between(1, 4096)]
    max_headers: Annotated[int, between(16, 10_000)]
    max_messages: Annotated[int, between(1, 2**20)]
    max_prompt_tokens: Annotated[int, between(1, 2**20)] | None
    max_queue: Annotated[int, between(0, 2**24)]
    max_time: Seconds | None
    max_connections: Annotated[int, between(16, 2**20)]
    read_seconds: Annotated[float, between(0.1, 3600.0)]
    log_prompts: Flag


@dataclass(frozen=True)
class EngineSettings:
    """max_length: longest row, prompt and canvas (None: the model's own limit); max_positions: positions
    forwarded in one step (None: as suits the device, engine/budget.py); kv_positions: of the K/V memory that
    rows share (None: batch_size rows of max_length); share_prefixes: requests share K/V of leading blocks,
    where those are final; exact: a row's bits do not depend on its company (None: on the CPU). Where not
    `exact`: attention, the kernel (None: varlen where it is there, else sdpa); capture, how steps of few
    tokens run (None: cuda_graph on CUDA)."""

    max_length: Annotated[int, between(2, 2**20)] | None
    max_positions: Annotated[int, between(1, 2**24)] | None
    kv_positions: Annotated[int, between(64, 2**32)] | None
    share_prefixes: Flag
    exact: Flag | None
    attention: Literal["sdpa", "flex", "varlen"] | None
    capture: Literal["none", "cuda_graph", "inductor", "trace"] | None


@dataclass(frozen=True)
class PlanSettings:
    """What `--plan` is asked for: requests of such a mean prompt and canvas."""

    prompt_length: Annotated[int, between(1, 2**20)] | None
    max_tokens: Annotated[int, between(1, 2**20)] | None


@dataclass(frozen=True)
class ServeSettings:
    """One field per top-level key of conf/serve.yaml, which explains each. preset: of `decoding=NAME`;
    decoding: of a request that names nothing, the fields `decoding.*` over the preset."""

    model: ModelSettings
    mode: Literal["batch", "streaming"]
    batch_size: Annotated[int, between(1, 4096)]
    max_wait_time: Annotated[float, between(0.0, 60.0)]
    host: Text
    port: Annotated[int, between(0, 65535)]
    workers: Annotated[int, between(1, 64)]
    devices: Literal["auto"] | Annotated[int, between(1, 64)]
    device: Literal["auto", "cpu", "cuda"]
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    seed: Annotated[int, between(0, 2**63 - 1)] | None
    server_info: Text | None
    api_key_file: Text | None
    endpoint: Text | None
    log_level: Literal["debug", "info", "warning", "error"]
    log_format: Literal["auto", "text", "json"]
    preset: DecodingParams
    decoding: DecodingParams
    engine: EngineSettings
    server: HttpSettings


def conf_dir() -> Path:
    """The folder of the YAML files: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent
    for place in (package / "conf", package.parent / "conf"):
        if (place / "serve.yaml").is_file():
            return place
    raise ValueError(f"conf/serve.yaml is neither in {package} nor beside it; is the install whole?")


def help_models() -> str:
    """The lines of `--help` on the choices of `model`: a file of conf/model each."""
    names = sorted(path.stem for path in (conf_dir() / "model").glob("*.yaml"))
    return "\n".join(help_line("model", f"{' | '.join(names)}  (tiny)", width=16))


def validate(cfg: Mapping[str, Any]) -> ServeSettings:
    """The settings a composed config stands for. Raises ValueError naming key, value and choices."""
    served = {key: value for key, value in cfg.items() if key not in (REPLICAS, PLAN)}
    tree = check_keys(served, _names(ServeSettings), moved=decoding_keys.MOVED_OF_SERVER)
    preset, decoding = read_decoding(tree)
    settings = read_fields(ServeSettings, tree, model=_model(tree), preset=preset, decoding=decoding)
    if settings.decoding.num_rows > settings.batch_size:
        raise ValueError(
            f"batch_size is {settings.batch_size}; decoding.cfg_scale above 0 needs at least 2 rows"
        )
    return settings


def replicas_of(cfg: Mapping[str, Any]) -> int:
    """How many servers a composed conf/serve.yaml asks for: it is the launcher's word, and no server's.
    Raises ValueError as `validate`."""
    return read_key(Keys(cfg), REPLICAS, Annotated[int, between(1, 1000)])


def mix_of(cfg: Mapping[str, Any]) -> tuple[int, int] | None:
    """Mean tokens of prompt and canvas that a composed conf/serve.yaml plans for: None where no prompt length
    is named. The canvas is the server's own `max_tokens` where it is not. Raises ValueError as `validate`."""
    plan = read_key(Keys(cfg), PLAN, PlanSettings)
    if plan.prompt_length is None:
        return None
    return plan.prompt_length, plan.max_tokens or read_decoding(Keys(cfg))[1].max_tokens


def read_decoding(tree: Mapping[str, Any]) -> tuple[DecodingParams, DecodingParams]:
    """The preset, and what the fields `decoding.*` make of it. Raises ValueError naming the key."""
    presets, fields_of_requests = (
        check_keys(tree[key], PRESET_FIELDS, key) for key in (decoding_keys.PRESET, decoding_keys.DECODING)
    )
    preset = decoding_keys.read_preset(presets)
    return preset, decoding_keys.apply(decoding_keys.request_fields(fields_of_requests), preset)


def override_value(value: Any) -> str:
    """A value in the grammar of Hydra's command line, whatever characters it holds: there a backslash is
    one, unless a quote follows it."""
    if isinstance(value, str):
        return "'" + re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + "\\'" * bool(m[2]), value) + "'"
    return "null" if value is None else json.dumps(value)


def serve_keys() -> tuple[str, ...]:
    """Every key of the tree, dotted, as one may override it."""
    nested = {
        "model": MODEL_KEYS,
        "preset": PRESET_FIELDS,
        "decoding": PRESET_FIELDS,
        "engine": _names(EngineSettings),
        "server": _names(HttpSettings),
    }
    dotted = tuple(f"{group}.{name}" for group, names in nested.items() for name in names)
    return _names(ServeSettings) + dotted


def _names(cls: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls))


def _model(tree: Keys) -> ModelSettings:
    names = list(map(str, tree["model"])) if isinstance(tree.get("model"), Mapping) else []
    values = tree.child("model", (*MODEL_KEYS, *names))
    of_family = {name: values.pop(name) for name in names if name not in MODEL_KEYS}
    for key, value in of_family.items():
        if nearest(key, MODEL_KEYS) or not isinstance(value, str | int | float | None):
            raise ValueError(unknown_key_message(f"model.{key}", [f"model.{k}" for k in MODEL_KEYS]))
    of_family = {key: value for key, value in of_family.items() if value is not None}
    model = read_fields(ModelSettings, values, settings=of_family)
    if model.source != "tiny" and model.path is None:
        raise ValueError(
            f"model.path is not set; model.source={model.source} needs a folder"
            + (" or a hub id" if model.source == "hf" else " (step_N/policy/weights or above it)")
        )
    return model
