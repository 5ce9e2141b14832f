"""The keys of conf/gate.yaml, checked, and the settings that they name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from llada_exp import decoding_keys
from llada_exp.decoding import describe
from llada_exp.gate.measure import plan
from llada_exp.gate.strata import STRATA, problems
from llada_exp.gate.verdict import Limits
from llada_exp.runs import decoding_columns
from llada_exp.settings import read_decoding
from llada_exp.validation import Flag, between, check_keys, read_key

KEYS = (
    "model", "kinds", "num_problems", "batch_size", "device", "dtype", "settings", "resume", "exact",
    "margin", "min_agreement", "undecided", "fail", "preset", "decoding", "canvases", "http",
)  # fmt: skip

SERVED = "served"
MAX_CANVAS = 2**20

CHECKED_KEYS = {
    "num_problems": Annotated[int, between(0, 2**31)] | None,
    "http": Annotated[int, between(0, 2**20)],
    "batch_size": Annotated[int, between(1, 4096)],
    "exact": Annotated[int, between(0, 2**31)],
    "undecided": Literal["fail", "pass"],
    "fail": Flag,
}


def check(tree: Mapping[str, Any]) -> Limits:
    """Raises ValueError naming the key."""
    keys = check_keys(tree, KEYS, moved=decoding_keys.MOVED_OF_SERVER)
    for key, hint in CHECKED_KEYS.items():
        read_key(keys, key, hint)
    if tree["num_problems"] == 0 and not tree["exact"]:
        raise ValueError("num_problems and exact are both 0; expected one of them above")
    for key in ("kinds", "canvases"):
        if not isinstance(tree[key], list) or not tree[key]:
            raise ValueError(f"{key} is {tree[key]!r}; expected a list of one at least")
    for kind in tree["kinds"]:
        problems(kind, 0)
    for canvas in tree["canvases"]:
        if canvas != SERVED and (type(canvas) is not int or not 1 <= canvas <= MAX_CANVAS):
            raise ValueError(f"canvases holds {canvas!r}; expected {SERVED}, or a number from 1 on")
    return Limits(tree["margin"], tree["min_agreement"])


def canvases(tree: Mapping[str, Any]) -> list[int]:
    """Each once; `served` is that of a request which names nothing. Raises ValueError as `read_decoding`."""
    _, served = read_decoding(tree)
    return list(dict.fromkeys(served.max_tokens if c == SERVED else c for c in tree["canvases"]))


def numbers(tree: Mapping[str, Any]) -> dict[str, int]:
    """Problems by kind."""
    num = tree["num_problems"]
    return {kind: STRATA[kind].enough if num is None else num for kind in tree["kinds"]}


def decoding_setting(tree: Mapping[str, Any], chosen: bool = False) -> dict[str, dict[str, Any]]:
    """The setting that the keys `decoding.*` name over the preset, as `serve` would take it, but for
    max_tokens, which is `canvases`'; {} where none is named, nor the preset chosen. Raises ValueError."""
    _, decoding = read_decoding(tree)
    fields = decoding_keys.request_fields(tree[decoding_keys.DECODING])
    if not fields and not chosen:
        return {}
    used = decoding_columns.values(describe(decoding))
    del used["max_tokens"]
    return {decoding_keys.DECODING: used}


def judged_settings(tree: Mapping[str, Any], words: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """`settings`, and what `decoding.*` names or, where `words` of the command line choose or change the
    preset, that preset; left out where it is one of `settings`. Raises ValueError naming a bad one."""
    settings = tree["settings"]
    extra = decoding_setting(tree, chosen=any(map(decoding_keys.chooses_preset, words)))
    params = plan({**settings, **extra}, canvases(tree)[0])
    repeated = extra and any(params[decoding_keys.DECODING] == params[name] for name in settings)
    return {**settings, **({} if repeated else extra)}
