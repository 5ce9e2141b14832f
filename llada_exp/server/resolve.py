"""From a request's fields to the decoding parameters it gets, and nothing silently dropped.

    rule named -> that one; else a parameter of a rule named -> that rule (`threshold` alone means
    threshold); else `steps` or `tokens_per_step` named -> fixed; else the server's preset.

`steps` beside another rule is allowed and unused: the predecessor's clients always send it. Other
fields that contradict each other are a 400. Which rules, caches and parameters exist is read from
`llada_exp.types`, so that a new one is open to requests as soon as it is there.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from random import Random
from typing import Any

from llada_exp.server.errors import bad_request
from llada_exp.server.schema import Generation
from llada_exp.types import CACHES, DECODING_FIELDS, MAX_SEED, RULES, DecodingParams

RULES_WITH: Mapping[str, tuple[str, ...]] = {
    # a parameter: the rules that have it, the one it implies alone first
    "threshold": ("threshold", "credit", "hierarchical"),
    "factor": ("factor",),
    "delta": ("frechet",),
    "low_threshold": ("hierarchical",),
}
ALGORITHMS: Mapping[str, Mapping[str, str]] = {
    # the predecessor's generation_algorithm: what it stands for here
    "basic": {"cache": "none"},
    "prefix_cache": {"cache": "prefix"},
    "dual_cache": {"cache": "dual"},
    "dinfer_blockwise": {"rule": "threshold"},
    "dinfer_threshold": {"rule": "threshold"},
    "dinfer_hierarchical": {"rule": "hierarchical"},
    "dinfer_credit": {"rule": "credit"},
}
_NAMED = tuple(n for n in Generation.model_fields if n in DECODING_FIELDS and n not in ("seed", "stop"))


def resolve(request: Generation, preset: DecodingParams, seed: int) -> DecodingParams:
    """The parameters of choice 0. Raises a 400 ApiError for contradictions and what is not there yet."""
    named = {name: value for name in _NAMED if (value := request.given(name)) is not None}
    named |= _aliases(request, named)
    if (max_tokens := _max_tokens(request)) is not None:
        named["max_tokens"] = max_tokens
    if named.get("top_k") == -1:
        named["top_k"] = 0
    rule = _rule(named, preset)
    _check_available(rule, named.get("cache", preset.cache), named)
    if rule != "fixed":
        named.pop("steps", None)
        named.pop("tokens_per_step", None)
    values = _preset_for(rule, preset, named) | named | {"rule": rule, "seed": seed, "stop": _stop(request)}
    try:
        return DecodingParams(**values)
    except ValueError as error:
        name = str(error).split(" ", 1)[0]
        raise bad_request(str(error), name if name in DECODING_FIELDS else None, "invalid_value") from None


def for_choice(params: DecodingParams, index: int) -> DecodingParams:
    """Choice 0 has the request's own seed, choice i one derived from it and i alone."""
    if index == 0:
        return params
    return replace(params, seed=Random(f"{params.seed}/{index}").randrange(MAX_SEED))


def fresh_seed() -> int:
    """For requests that bring none; below 2**53, so that JavaScript reads it exactly too."""
    return secrets.randbelow(2**53)


def describe(params: DecodingParams) -> dict[str, Any]:
    """The effective parameters, as a response carries them."""
    return asdict(params) | {"stop": list(params.stop)}


def algorithms() -> list[dict[str, Any]]:
    """What /generation/algorithms lists: every rule, cache and old name, and whether it is there."""
    told = {
        "basic": "one pass over the whole row per step",
        "prefix_cache": "keys and values of everything before the block are kept",
        "dual_cache": "keys and values of everything but the block are kept",
        "dinfer_blockwise": "every candidate above a confidence",
        "dinfer_threshold": "every candidate above a confidence",
        "dinfer_hierarchical": "the best candidate of each masked run, if it is sure enough",
        "dinfer_credit": "candidates gain credit over steps",
    }
    return [
        {
            "name": name,
            "description": told[name],
            "available": meaning.get("rule", RULES[0]) in RULES and meaning.get("cache", "none") in CACHES,
            "stands_for": dict(meaning),
        }
        for name, meaning in ALGORITHMS.items()
    ]


def _aliases(request: Generation, named: Mapping[str, Any]) -> dict[str, str]:
    """What the predecessor's names stand for; a 400 where they contradict what is named beside them."""
    meanings: list[tuple[str, str, str]] = []
    if (algorithm := request.generation_algorithm) is not None:
        if algorithm not in ALGORITHMS:
            raise bad_request(
                f"generation_algorithm is {algorithm!r}; expected one of {', '.join(ALGORITHMS)}",
                "generation_algorithm",
                "invalid_value",
            )
        meanings += [("generation_algorithm", *pair) for pair in ALGORITHMS[algorithm].items()]
    if request.use_dual_cache:
        meanings.append(("use_dual_cache", "cache", "dual"))
        if request.use_cache is False:
            message = "use_dual_cache is true and use_cache is false"
            raise bad_request(message, "use_cache", "contradiction")
    elif request.use_cache is not None:
        meanings.append(("use_cache", "cache", "prefix" if request.use_cache else "none"))
    result: dict[str, str] = {}
    for alias, name, value in meanings:
        other = named.get(name, result.get(name, value))
        if alias == "use_cache" and request.use_cache and other != "none":
            continue  # "some cache": the one that is named
        if other != value:
            message = f"{alias} means {name}={value}, but {name} is {other!r}"
            raise bad_request(message, alias, "contradiction")
        result[name] = value
    return result


def _max_tokens(request: Generation) -> int | None:
    old, new = request.max_tokens, request.given("max_completion_tokens")
    if old is not None and new is not None and old != new:
        raise bad_request(
            f"max_tokens is {old} and max_completion_tokens is {new}: give one of them",
            "max_completion_tokens",
            "contradiction",
        )
    return new if new is not None else old


def _rule(named: Mapping[str, Any], preset: DecodingParams) -> str:
    own = [name for name in RULES_WITH if name in named]
    rule = named.get("rule")
    if rule is None and own:
        common = [r for r in RULES_WITH[own[0]] if all(r in RULES_WITH[name] for name in own)]
        if not common:
            message = f"{' and '.join(own)} belong to different rules; give one of them"
            raise bad_request(message, own[-1], "contradiction")
        return common[0]
    for name in own:
        if rule in RULES and rule not in RULES_WITH[name]:
            message = f"{name} belongs to rule={' or '.join(RULES_WITH[name])}, but rule is {rule!r}"
            raise bad_request(message, name, "contradiction")
    if rule is not None:
        return str(rule)
    return "fixed" if "steps" in named or "tokens_per_step" in named else preset.rule


def _check_available(rule: str, cache: str, named: Mapping[str, Any]) -> None:
    if rule not in RULES:
        raise bad_request(f"rule {rule!r} is not available; available: {', '.join(RULES)}", "rule")
    if cache not in CACHES:
        raise bad_request(f"cache {cache!r} is not available; available: {', '.join(CACHES)}", "cache")
    if cache == "none" and named.get("refresh", "every_block") != "every_block":
        message = f"refresh={named['refresh']} is about a cache, but cache is 'none'"
        raise bad_request(message, "refresh", "contradiction")


def _preset_for(rule: str, preset: DecodingParams, named: Mapping[str, Any]) -> dict[str, Any]:
    """The preset's values; its step schedule only where the request keeps rule and schedule."""
    values = {f.name: getattr(preset, f.name) for f in fields(DecodingParams)}
    if rule != preset.rule or {"steps", "tokens_per_step"} & set(named):
        values |= {"steps": None, "tokens_per_step": None}
    return values


def _stop(request: Generation) -> tuple[str, ...]:
    if request.stop is None:
        return ()
    return (request.stop,) if isinstance(request.stop, str) else tuple(request.stop)
