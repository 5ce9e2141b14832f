"""The keys `decoding.*` of every program's command line, derived from the declared fields.

They mean one thing everywhere: fields named as a request names them, over a preset. `decoding=NAME` is the
preset of a server that is started, and composes to `preset.*`, which holds every field; `decoding.*` holds
the fields that the user names, null where none is. serve puts the named ones over the preset when it starts;
bench and evals send them with each request, to a server that puts them over its own; both ask
`llada_exp.decoding`. So one command line gives one decoding, whoever started the server.

Knows no Hydra: composed mappings come in, mappings to compose go out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from llada_exp.decoding import ALIASES, OTHER_NAMES, check, resolve
from llada_exp.fields import DecodingError
from llada_exp.help import help_line, spelled
from llada_exp.types import DECLARATIONS, PRESET_FIELDS, REQUEST_FIELDS, SCHEDULE, DecodingParams

DECODING, PRESET = "decoding", "preset"
OF_EVALUATIONS = tuple(
    name for name in REQUEST_FIELDS if name not in ("seed", "stop", "stop_token_ids", "trace")
)
"""Fields that an evaluation may name: it has a seed of its own, its benchmarks say what ends an answer, and
nobody reads a trace."""


def moved(names: Iterable[str]) -> dict[str, str]:
    """Old spellings of a program's keys, and names that requests alone have -> the new ones. names: the
    fields that stand under `decoding` there."""
    keys = {"request": DECODING, "tokens_to_generate": f"{DECODING}.max_tokens"}
    for name in names:
        keys |= dict.fromkeys((name, f"request.{name}"), f"{DECODING}.{name}")
    aliases = {
        "generation_algorithm": f"{DECODING}.rule or {DECODING}.cache",
        "use_cache": f"{DECODING}.cache",
        "use_dual_cache": f"{DECODING}.cache",
        **{name: f"{DECODING}.{field}" for name, field in OTHER_NAMES.items()},
    }
    for alias in ALIASES:
        keys |= dict.fromkeys((alias, f"request.{alias}", f"{DECODING}.{alias}"), aliases[alias])
    return keys


MOVED_OF_SERVER = moved(PRESET_FIELDS)
MOVED_OF_BENCH = moved(REQUEST_FIELDS)
MOVED_OF_EVALUATION = moved(OF_EVALUATIONS) | dict.fromkeys((f"{DECODING}.seed", "request.seed"), "seed")


def composed() -> dict[str, Any]:
    """What Hydra composes for a server: the declared defaults, which the file of `decoding=NAME` changes, and
    no field named."""
    defaults = {name: DECLARATIONS[name].default for name in PRESET_FIELDS}
    return {PRESET: defaults, DECODING: dict.fromkeys(PRESET_FIELDS)}


def composed_requests() -> dict[str, Any]:
    """And beside it for a benchmark: fields of its requests, none of them named."""
    return {DECODING: dict.fromkeys(REQUEST_FIELDS)}


def composed_evaluation() -> dict[str, Any]:
    return {DECODING: dict.fromkeys(OF_EVALUATIONS)}


def request_fields(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `decoding.*` that the user named."""
    return {str(name): value for name, value in tree.items() if value is not None}


def chooses_preset(word: str) -> bool:
    """Whether a word of a command line chooses the preset (`decoding=fast`) or changes it
    (`preset.rule=klass`). `decoding={rule: klass}` names fields."""
    key, _, value = word.partition("=")
    key = key.lstrip("+~").partition("@")[0]
    return (key == DECODING and not value.startswith("{")) or key.split(".")[0] == PRESET


def read_preset(tree: Mapping[str, Any]) -> DecodingParams:
    """The preset that `preset.*` stands for; a field that is not there has its declared default. Raises
    ValueError naming the key, also where a schedule stands beside another rule: no request would get it."""
    try:
        preset = DecodingParams(**tree)
    except DecodingError as error:
        raise ValueError(f"{PRESET}.{error}") from None
    for name in SCHEDULE:
        if getattr(preset, name) is not None and preset.rule not in DECLARATIONS[name].rules:
            value, rule = getattr(preset, name), preset.rule
            raise ValueError(f"{PRESET}.{name} is {value} and not used: {PRESET}.rule is {rule!r}")
    return preset


def apply(request: Mapping[str, Any], preset: DecodingParams | None) -> DecodingParams:
    """The decoding of fields that a request names, over a preset; None: over that of a server which we do
    not know, for its errors alone. Raises ValueError naming the key, also where a field plays no part."""
    try:
        decoding = check(request) if preset is None else resolve(request, preset)
    except DecodingError as error:
        raise ValueError(f"{DECODING}.{error}") from None
    for warning in decoding.warnings:
        raise ValueError(f"{DECODING}.{warning}")
    return decoding.params


def in_terms_of_keys(message: str, field: str | None, code: str | None) -> str:
    """A server's message about a request's field, of the key that stands for it in a program, which the user
    can change. field, code: of the error."""
    if code == "context_length_exceeded":
        facts, please, advice = message.rpartition("Please ")
        return facts + please + re.sub(r"\b(max_tokens|block_length)\b", rf"{DECODING}.\1", advice)
    is_about = field in REQUEST_FIELDS and message.startswith(f"{field} ")
    return f"{DECODING}.{message}" if is_about else message


def explained(name: str) -> str:
    """A field's line: what it means, what it may be, whose it is, and its declared default."""
    declared = DECLARATIONS[name]
    choices = f": {' | '.join(declared.choices)}" if declared.choices else ""
    rules = f" (of {', '.join(declared.rules)})" if declared.rules else ""
    return f"{declared.help}{choices}{rules}  ({spelled(declared.default)})"


def _help(names: Iterable[str]) -> str:
    return "\n".join(line for name in names for line in help_line(f"{DECODING}.{name}", explained(name)))


help_preset = partial(_help, PRESET_FIELDS)
help_requests = partial(_help, REQUEST_FIELDS)
help_evaluation = partial(_help, OF_EVALUATIONS)
