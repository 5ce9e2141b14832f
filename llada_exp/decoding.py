"""Which decoding a request gets: the names it gives, over a preset. The only owner of that question.

    rule named -> that one; else a parameter of a rule named -> that rule (`threshold` alone means threshold);
    else a schedule named (`steps`, `tokens_per_step`, `steps_per_block`) -> fixed; else the preset's. Over a
    preset whose rule is a family's published one (dynamic, sequential, edit), what belongs to it changes it.

Every door asks `resolve`: the server, evaluations in this process, the check that a server decoded as asked,
the gate, the engine's benchmark, the offline API. None names nothing. What a request names wins over what the
preset says; fields that contradict each other are refused; a schedule beside another rule is allowed and not
used, for the predecessor's clients always send `steps`, and `Decoding.unused` says so, as of what is about
another way to refresh a cache. Which fields, rules and parameters there are is read from `llada_exp.types`.

Knows no HTTP, no engine and no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from llada_exp.fields import Declaration, DecodingError
from llada_exp.types import (
    DECLARATIONS,
    DECODING_FIELDS,
    PUBLISHED_RULES,
    RULES_WITH,
    SCHEDULE,
    DecodingParams,
)

__all__ = ["ALGORITHMS", "ALIASES", "Algorithm", "Decoding", "DecodingError", "check", "describe", "resolve"]


@dataclass(frozen=True)
class Decoding:
    """params: what is decoded by; unused: names that were given and play no part in it, and why."""

    params: DecodingParams
    unused: Mapping[str, str] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """What was asked and not done, in words."""
        return list(self.unused.values())


@dataclass(frozen=True)
class Algorithm:
    """A name of the predecessor's. fields: what it stands for."""

    fields: Mapping[str, str]
    description: str


ALGORITHMS: Mapping[str, Algorithm] = {
    "basic": Algorithm({"cache": "none"}, "one pass over the whole row per step"),
    "prefix_cache": Algorithm({"cache": "prefix"}, "keys and values of everything before the block are kept"),
    "dual_cache": Algorithm({"cache": "dual"}, "keys and values of everything but the block are kept"),
    "dinfer_blockwise": Algorithm({"rule": "threshold"}, "every candidate above a confidence"),
    "dinfer_threshold": Algorithm({"rule": "threshold"}, "every candidate above a confidence"),
    "dinfer_hierarchy": Algorithm(
        {"rule": "hierarchical"}, "the best candidate of each masked run, if it is sure enough"
    ),
    "dinfer_hierarchical": Algorithm({"rule": "hierarchical"}, "dinfer_hierarchy by another spelling"),
    "dinfer_credit": Algorithm({"rule": "credit"}, "candidates gain credit over steps"),
}
OTHER_NAMES: Mapping[str, str] = {
    "max_completion_tokens": "max_tokens",
    "max_new_tokens": "max_tokens",
    "gen_length": "max_tokens",
    "stop_words": "stop",
}
"""Of OpenAI's newer API, Hugging Face, LLaDA's and NeMo's code."""
ALIASES: Mapping[str, Declaration] = {
    "generation_algorithm": Declaration(
        kind="choice",
        default=None,
        choices=tuple(ALGORITHMS),
        help="a rule or cache by the predecessor's name",
    ),
    "use_cache": Declaration(
        kind="flag", default=None, help="true: cache=prefix, or the one that is named; false: none"
    ),
    "use_dual_cache": Declaration(kind="flag", default=None, help="true: cache=dual"),
    **{
        name: replace(DECLARATIONS[field], default=None, help=f"{field} by another name")
        for name, field in OTHER_NAMES.items()
    },
}
"""Names that stand for fields, and are understood wherever fields are."""


def resolve(request: Mapping[str, Any], preset: DecodingParams) -> Decoding:
    """The decoding of a request that names fields and aliases, over a preset; None names nothing.

    Raises DecodingError for an unknown name, a value out of bounds, and a contradiction.
    """
    return _resolve(request, preset, is_certain=True)


def _resolve(request: Mapping[str, Any], preset: DecodingParams, is_certain: bool) -> Decoding:
    """is_certain: whether the preset is the one that the request gets."""
    chosen = _fields_of({name: value for name, value in request.items() if value is not None})
    rule = _rule(chosen, preset)
    if chosen.get("cache", preset.cache) == "none" and chosen.get("refresh", "every_block") != "every_block":
        message = f"refresh={chosen['refresh']} is about a cache, but cache is 'none'"
        raise DecodingError(message, "refresh", "contradiction")
    unused = {
        name: f"{name} is {chosen[name]} and not used: rule is {rule!r}"
        for name in SCHEDULE
        if name in chosen and rule not in DECLARATIONS[name].rules
    }
    for name, value in chosen.items():
        asks = value not in (DECLARATIONS[name].default, getattr(preset, name))
        if asks and (other := _idle_beside(name, chosen, preset if is_certain else None)):
            unused[name] = f"{name} is {value} and not used: {other[0]} is {other[1]!r}"
    used = {name: value for name, value in chosen.items() if name not in unused}
    used |= {"rule": rule}
    return Decoding(replace(preset, **_yielding(rule, preset, chosen) | used), unused)


def check(request: Mapping[str, Any]) -> Decoding:
    """What can be said of a request whose preset is not known, a remote server's: raises DecodingError as
    `resolve` does, where it would over every preset. The decoding is one that they may get."""
    return _resolve(request, DecodingParams(cache="dual"), is_certain=False)


def describe(params: DecodingParams) -> dict[str, Any]:
    """The parameters as plain JSON, as a response carries them."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(params).items()}


def _fields_of(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Names with aliases put into fields, each value checked."""
    result = {name: d.read(name, chosen[name]) for name, d in DECLARATIONS.items() if name in chosen}
    aliases = {name: d.read(name, chosen[name]) for name, d in ALIASES.items() if name in chosen}
    for name in chosen:
        if name not in result and name not in aliases:
            message = f"{name} is no decoding field; expected one of {', '.join(DECODING_FIELDS)}"
            raise DecodingError(message, name, "unknown_field")
    for alias, name, value in _meanings(aliases, result):
        if result.setdefault(name, value) != value:
            message = f"{alias} means {name}={value}, but {name} is {result[name]!r}"
            raise DecodingError(message, alias, "contradiction")
    return result


def _meanings(aliases: Mapping[str, Any], chosen: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """(alias, field, value) of each alias; chosen: fields that are named themselves."""
    meanings: list[tuple[str, str, Any]] = []
    if (algorithm := aliases.get("generation_algorithm")) is not None:
        meanings += [("generation_algorithm", *pair) for pair in _algorithm(algorithm).items()]
    cache = next((value for _, name, value in meanings if name == "cache"), chosen.get("cache"))
    meanings += [(alias, "cache", value) for alias, value in _cache_of(aliases, cache)]
    for alias, name in OTHER_NAMES.items():
        if aliases.get(alias) not in (None, ()):  # no text is no stop string
            meanings.append((alias, name, aliases[alias]))
    return meanings


def _algorithm(name: str) -> Mapping[str, str]:
    for key, value in ALGORITHMS[name].fields.items():
        if value not in (allowed := DECLARATIONS[key].choices):
            message = f"{key} {value!r} is not available; available: {', '.join(allowed)}"
            raise DecodingError(message, "generation_algorithm")
    return ALGORITHMS[name].fields


def _cache_of(aliases: Mapping[str, Any], cache: str | None) -> list[tuple[str, str]]:
    """What the predecessor's two switches say of the cache; cache: what else says of it."""
    use, dual = aliases.get("use_cache"), aliases.get("use_dual_cache")
    if dual:
        if use is False:
            message = "use_dual_cache is true and use_cache is false"
            raise DecodingError(message, "use_cache", "contradiction")
        return [("use_dual_cache", "dual")]
    if use is None or (use and cache not in (None, "none")):  # "some cache": the one that is named
        return []
    return [("use_cache", "prefix" if use else "none")]


def _rule(chosen: Mapping[str, Any], preset: DecodingParams) -> str:
    parameters = [name for name in RULES_WITH if name in chosen]
    rule = chosen.get("rule")
    if rule is not None:
        for name in parameters:
            if rule not in RULES_WITH[name]:
                message = f"{name} belongs to rule={' or '.join(RULES_WITH[name])}, but rule is {rule!r}"
                raise DecodingError(message, name, "contradiction")
        return rule
    schedule = [name for name in SCHEDULE if name in chosen]
    named = parameters or schedule
    if preset.rule in PUBLISHED_RULES and all(preset.rule in DECLARATIONS[name].rules for name in named):
        return preset.rule
    if parameters:
        common = [r for r in RULES_WITH[parameters[0]] if all(r in RULES_WITH[name] for name in parameters)]
        if not common:
            message = f"{' and '.join(parameters)} belong to different rules; give one of them"
            raise DecodingError(message, parameters[-1], "contradiction")
        return common[0]
    return DECLARATIONS[schedule[0]].rules[0] if schedule else preset.rule


def _idle_beside(
    name: str, chosen: Mapping[str, Any], preset: DecodingParams | None
) -> tuple[str, Any] | None:
    """The field, and its value, beside which this one plays no part; None where it may play one."""
    if (beside := DECLARATIONS[name].beside) is None:
        return None
    field, values = beside
    if field not in chosen and preset is None:
        return None
    value = chosen[field] if field in chosen else getattr(preset, field)
    return _idle_beside(field, chosen, preset) if value in values else (field, value)


def _yielding(rule: str, preset: DecodingParams, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The preset's values that what is named does not leave standing: its schedule where rule or schedule are
    named; of a growing canvas and a window beyond the block the one that is not named; and such a window
    where the preset's cache is declined: `cache: none` is the whole row in every pass."""
    names: list[str] = []
    if rule != preset.rule or any(name in chosen for name in SCHEDULE):
        names += SCHEDULE
    if chosen.get("canvas") == "grow" or chosen.get("cache") == "none" != preset.cache:
        names.append("suffix_window")
    if chosen.get("suffix_window"):
        names.append("canvas")
    return {name: DECLARATIONS[name].default for name in names}
