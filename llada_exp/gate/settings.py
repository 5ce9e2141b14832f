"""The keys of conf/gate.yaml, checked, and the settings that they name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llada_exp import decoding_keys
from llada_exp.decoding import describe
from llada_exp.gate.measure import plans
from llada_exp.gate.verdict import FAIL, PASS, Limits
from llada_exp.runs import decoding_columns
from llada_exp.settings import Node, unknown_key_message
from llada_exp.types import PRESET_FIELDS

KEYS = (
    "model", "kinds", "num_problems", "batch_size", "device", "dtype", "settings", "resume", "exact",
    "margin", "min_agreement", "undecided", "fail", "preset", "decoding",
)  # fmt: skip


def check(tree: Mapping[str, Any]) -> Limits:
    """Raises ValueError naming the key."""
    for key in tree:
        if key not in KEYS:
            raise ValueError(unknown_key_message(key, KEYS, decoding_keys.MOVED_OF_SERVER))
    for key, least in (("num_problems", 0), ("batch_size", 1), ("exact", 0)):
        if isinstance(tree[key], bool) or not isinstance(tree[key], int) or tree[key] < least:
            raise ValueError(f"{key} is {tree[key]!r}; expected an integer >= {least}")
    if not tree["num_problems"] and not tree["exact"]:
        raise ValueError("num_problems and exact are both 0; expected one of them above")
    if tree["undecided"] not in (FAIL, PASS):
        raise ValueError(f"undecided is {tree['undecided']!r}; expected fail or pass")
    if not isinstance(tree["fail"], bool):
        raise ValueError(f"fail is {tree['fail']!r}; expected true or false")
    return Limits(tree["margin"], tree["min_agreement"])


def decoding_setting(tree: Mapping[str, Any], chosen: bool = False) -> dict[str, dict[str, Any]]:
    """The setting that the keys `decoding.*` name over the preset, as `serve` would take it; {} where none is
    named, nor the preset chosen. Raises ValueError."""
    preset = decoding_keys.read_preset(Node(tree["preset"], "preset", PRESET_FIELDS).tree)
    fields = decoding_keys.request_fields(Node(tree["decoding"], "decoding", PRESET_FIELDS).tree)
    if not fields and not chosen:
        return {}
    used = decoding_columns.values(describe(decoding_keys.apply(fields, preset)))
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
