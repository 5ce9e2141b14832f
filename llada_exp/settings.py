"""The server's configuration as typed, checked values.

Hydra composes `conf/serve.yaml`; `validate` turns the composed tree into `ServeSettings` or raises a
ValueError that names the key, the value and what is allowed. (`__post_init__` of a structured config
does not run under Hydra, so nothing is left to it.) Knows no torch, no HTTP and no Hydra: a plain
mapping will do.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from llada_exp import decoding_keys
from llada_exp.help import help_line
from llada_exp.types import PRESET_FIELDS, REQUEST_FIELDS, DecodingParams

SOURCES = ("tiny", "hf", "dcp")
MODES = ("batch", "streaming")
DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("auto", "float32", "bfloat16", "float16")
EXTRA_FIELDS = ("reject", "ignore")
LOG_LEVELS = ("debug", "info", "warning", "error")
MODEL_KEYS = ("source", "path", "base", "name")
"""Of every model; what else `model` holds is its family's."""
MAX_TIME_S = 7 * 86400.0
Value = TypeVar("Value")


@dataclass(frozen=True)
class ModelSettings:
    """source: where weights come from; path: folder or hub id; base: config and tokenizer of a dcp
    checkpoint; name: what /v1/models calls it; settings: all other keys of `model`, which the checkpoint's
    family reads beside its config.json (`mask_token_id`, `block_length`), and refuses if it has none such."""

    source: str
    path: str | None
    base: str | None
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HttpSettings:
    """extra_fields: reject or ignore unknown request fields; drain_seconds: how long a stopping server
    finishes what is in flight; hang_seconds: a worker silent for longer is killed (0: never);
    log_prompts: requests' texts in the log.

    What is beyond a limit is refused: max_body_mb, max_headers, max_messages (of a chat), max_prompt_tokens
    (None: the model's limit alone), max_queue (answers that wait for a row; 0: no limit), max_time (seconds
    a request may take that names no other limit; None: no limit)."""

    extra_fields: str
    drain_seconds: float
    hang_seconds: float
    max_body_mb: int
    max_headers: int
    max_messages: int
    max_prompt_tokens: int | None
    max_queue: int
    max_time: float | None
    log_prompts: bool


@dataclass(frozen=True)
class EngineSettings:
    """max_length: longest row, prompt and canvas (None: the model's own limit); max_positions: positions
    forwarded in one step; exact: a row's bits do not depend on its company (None: on the CPU)."""

    max_length: int | None
    max_positions: int
    exact: bool | None


@dataclass(frozen=True)
class ServeSettings:
    """One field per top-level key of conf/serve.yaml, which explains each. preset: of `decoding=NAME`;
    decoding: of a request that names nothing, the fields `decoding.*` over the preset."""

    model: ModelSettings
    mode: str
    batch_size: int
    max_wait_time: float
    host: str
    port: int
    workers: int
    devices: str | int
    device: str
    dtype: str
    seed: int | None
    server_info: str | None
    api_key_file: str | None
    endpoint: str | None
    log_level: str
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
    tree = Node(cfg, "", _names(ServeSettings), decoding_keys.MOVED_OF_SERVER)
    preset = decoding_keys.read_preset(tree.child("preset", PRESET_FIELDS).tree)
    named = decoding_keys.request_fields(tree.child("decoding", PRESET_FIELDS).tree)
    settings = ServeSettings(
        model=_model(tree["model"]),
        mode=tree.one_of("mode", MODES),
        batch_size=tree.integer("batch_size", 1, 4096),
        max_wait_time=tree.number("max_wait_time", 0.0, 60.0),
        host=tree.text("host"),
        port=tree.integer("port", 0, 65535),
        workers=tree.integer("workers", 1, 64),
        devices=_devices(tree),
        device=tree.one_of("device", DEVICES),
        dtype=tree.one_of("dtype", DTYPES),
        seed=tree.integer("seed", 0, 2**63 - 1) if tree["seed"] is not None else None,
        server_info=tree.text("server_info", optional=True),
        api_key_file=tree.text("api_key_file", optional=True),
        endpoint=tree.text("endpoint", optional=True),
        log_level=tree.one_of("log_level", LOG_LEVELS),
        preset=preset,
        decoding=decoding_keys.apply(named, preset),
        engine=_engine(tree.child("engine", _names(EngineSettings))),
        server=_http(tree.child("server", _names(HttpSettings))),
    )
    if settings.decoding.num_rows > settings.batch_size:
        raise ValueError(
            f"batch_size is {settings.batch_size}; decoding.cfg_scale above 0 needs at least 2 rows"
        )
    return settings


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be; two, where it might be either."""
    close = difflib.get_close_matches(name.lower(), list(known), n=2, cutoff=0.6)
    return " or ".join(close) if close else None


def unknown_key_message(key: str, known: Iterable[str], moved: Mapping[str, str] | None = None) -> str:
    """moved: old spelling of a key -> the new one."""
    if moved and key in moved:
        return f"{key} is now {moved[key]}"
    names = sorted(known)
    if key in names:  # of ~key and key@place
        return f"{key} cannot be taken away or put elsewhere; write {key}=VALUE"
    group, _, name = key.partition(".")
    if group == decoding_keys.DECODING and name in REQUEST_FIELDS:
        return f"unknown key {key}; it is a field of single requests, and no key of this program"
    guess = nearest(key, names)
    hint = f"did you mean {guess}?" if guess else f"known keys: {', '.join(names)}"
    return f"unknown key {key}; {hint}"


def override_value(value: Any) -> str:
    """A value in the grammar of Hydra's command line, whatever characters it holds: there a backslash is
    one, unless a quote follows it."""
    if isinstance(value, str):
        return "'" + re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + "\\'" * bool(m[2]), value) + "'"
    return "null" if value is None else json.dumps(value)


def known_keys() -> tuple[str, ...]:
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


def _model(tree: Any) -> ModelSettings:
    extra = [str(key) for key in tree if str(key) not in MODEL_KEYS] if hasattr(tree, "items") else []
    for key in extra:
        if nearest(key, MODEL_KEYS) or not isinstance(tree[key], str | int | float | None):
            raise ValueError(unknown_key_message(f"model.{key}", [f"model.{k}" for k in MODEL_KEYS]))
    node = Node(tree, "model", (*MODEL_KEYS, *extra))
    model = ModelSettings(
        source=node.one_of("source", SOURCES),
        path=node.text("path", optional=True),
        base=node.text("base", optional=True),
        name=node.text("name"),
        settings={key: node[key] for key in extra if node[key] is not None},
    )
    if model.source != "tiny" and model.path is None:
        raise ValueError(
            f"model.path is not set; model.source={model.source} needs a folder"
            + (" or a hub id" if model.source == "hf" else " (step_N/policy/weights or above it)")
        )
    return model


def _engine(node: Node) -> EngineSettings:
    return EngineSettings(
        max_length=None if node["max_length"] is None else node.integer("max_length", 2, 2**20),
        max_positions=node.integer("max_positions", 1, 2**24),
        exact=node.flag("exact"),
    )


def _http(node: Node) -> HttpSettings:
    return HttpSettings(
        extra_fields=node.one_of("extra_fields", EXTRA_FIELDS),
        drain_seconds=node.number("drain_seconds", 0.0, 86400.0),
        hang_seconds=node.number("hang_seconds", 0.0, 86400.0),
        max_body_mb=node.integer("max_body_mb", 1, 4096),
        max_headers=node.integer("max_headers", 16, 10_000),
        max_messages=node.integer("max_messages", 1, 2**20),
        max_prompt_tokens=_optional(node, "max_prompt_tokens", lambda key: node.integer(key, 1, 2**20)),
        max_queue=node.integer("max_queue", 0, 2**24),
        max_time=_optional(node, "max_time", lambda key: node.number(key, 0.001, MAX_TIME_S)),
        log_prompts=node.one_of("log_prompts", (False, True)),
    )


def _optional(node: Node, key: str, read: Callable[[str], Value]) -> Value | None:
    return None if node[key] is None else read(key)


def _devices(tree: Node) -> str | int:
    if tree["devices"] == "auto":
        return "auto"
    if not isinstance(tree["devices"], int):
        raise ValueError(f"devices is {tree['devices']!r}; expected auto or an integer from 1 to 64")
    return tree.integer("devices", 1, 64)


class Node:
    """A mapping of the config with its dotted place, read with checks."""

    def __init__(
        self, tree: Any, place: str, allowed: tuple[str, ...], moved: Mapping[str, str] | None = None
    ) -> None:
        """moved: old spelling of a key -> the new one. Raises ValueError naming a key that is not allowed."""
        if not hasattr(tree, "items"):
            raise ValueError(f"{place} is {tree!r}; expected the keys {', '.join(allowed)}")
        self.tree = {str(key): value for key, value in tree.items()}
        self.place = f"{place}." if place else ""
        for key in self.tree:
            if key not in allowed:
                places = [self.place + name for name in allowed]
                raise ValueError(unknown_key_message(self.place + key, places, moved))

    def __getitem__(self, key: str) -> Any:
        if key not in self.tree:
            raise ValueError(f"{self.place}{key} is missing")
        return self.tree[key]

    def child(self, key: str, allowed: tuple[str, ...]) -> Node:
        return Node(self[key], self.place + key, allowed)

    def text(self, key: str, optional: bool = False) -> Any:
        value = self[key]
        if value is None and optional:
            return None
        if not isinstance(value, str) or not value:
            raise self._bad(key, "a non-empty text" + (" or null" if optional else ""))
        return value

    def one_of(self, key: str, allowed: tuple[Value, ...]) -> Value:
        value = self[key]
        if not any(value == a and type(value) is type(a) for a in allowed):
            raise self._bad(key, f"one of {', '.join(str(a).lower() for a in allowed)}")
        return value

    def flag(self, key: str) -> bool | None:
        value = self[key]
        if value is not None and not isinstance(value, bool):
            raise self._bad(key, "true, false or null")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        value = self[key]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self._bad(key, f"an integer from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float) -> float:
        value = self[key]
        good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not good or not low <= value <= high:
            raise self._bad(key, f"a number from {low:g} to {high:g}")
        return float(value)

    def _bad(self, key: str, expected: str) -> ValueError:
        return ValueError(f"{self.place}{key} is {self[key]!r}; expected {expected}")
