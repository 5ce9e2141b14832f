"""The keys of conf/gate.yaml, checked, and the settings that they name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from llada_exp import decoding_keys
from llada_exp.decoding import describe
from llada_exp.gate.measure import plans
from llada_exp.gate.verdict import Limits
from llada_exp.runs import decoding_columns
from llada_exp.settings import read_decoding
from llada_exp.validation import Flag, between, check_keys, read_key

KEYS = (
    "model", "kinds", "num_problems", "batch_size", "device", "dtype", "settings", "resume", "exact",
    "margin", "min_agreement", "undecided", "fail", "preset", "decoding",
)  # fmt: skip


CHECKED_KEYS = {
    "num_problems": Annotated[int, between(0, 2**31)],
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
    if not tree["num_problems"] and not tree["exact"]:
        raise ValueError("num_problems and exact are both 0; expected one of them above")
    return Limits(tree["margin"], tree["min_agreement"])


def decoding_setting(tree: Mapping[str, Any], chosen: bool = False) -> dict[str, dict[str, Any]]:
    """The setting that the keys `decoding.*` name over the preset, as `serve` would take it; {} where none is
    named, nor the preset chosen. Raises ValueError."""
    _, decoding = read_decoding(tree)
    fields = decoding_keys.request_fields(tree[decoding_keys.DECODING])
    if not fields and not chosen:
        return {}
    used = decoding_columns.values(describe(decoding))
    if "max_tokens" not in fields:  # then that of the problems
        del used["max_tokens"]
    return {decoding_keys.DECODING: used}


def judged_settings(tree: Mapping[str, Any], words: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """`settings`, and what `decoding.*` names or, where `words` of the command line choose or change the
    preset, that preset; left out where it is one of `settings`. Raises ValueError naming a bad one."""
    settings = tree["settings"]
    extra = decoding_setting(tree, chosen=any(map(decoding_keys.chooses_preset, words)))
    every = plans(tree["kinds"], {**settings, **extra}).values()
    repeated = extra and all(any(p[decoding_keys.DECODING] == p[name] for name in settings) for p in every)
    return {**settings, **({} if repeated else extra)}
