"""Whether answers were decoded as asked, by the server's own word.

A score under parameters that never arrived, or that the rule in use does not have, is another setting's.
`llada_exp.decoding` says what the names mean: resolved over what the server says that it used, they must come
to just that.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from llada_exp.decoding import ALIASES, DecodingError, describe, resolve
from llada_exp.types import DECLARATIONS, DECODING_FIELDS, DecodingParams


def difference(fields: Mapping[str, Any], used: Sequence[Mapping[str, Any]]) -> str | None:
    """The first field that some response was decoded otherwise in, and how many; None where there is none.

    fields: of the requests, by the server's names; `stop` and others, a user's, are passed over.
    used:   the effective parameters of each response that tells them.
    """
    names = {*DECODING_FIELDS, *ALIASES} - {"stop"}
    request = {
        name: _whole(name, value) for name, value in fields.items() if name in names and value is not None
    }
    pairs = []
    for response in used:
        expected = _expected(request, response)
        if isinstance(expected, str):
            return expected
        pairs.append((expected, response))
    for name in dict.fromkeys([*request, *DECODING_FIELDS]):
        others: Counter[str] = Counter()
        for expected, response in pairs:
            is_comparable = name in expected and (name in response or name in request)
            if is_comparable and not _same(response.get(name), expected[name]):
                others[repr(response.get(name))] += 1
                value = request.get(name, expected[name])
        if others:
            shown = ", ".join(f"{other} in {count}" for other, count in others.most_common(3))
            return (
                f"{name} was asked as {value!r}, but the server used {shown} of {len(used)} responses; is it"
                " a field of the rule that is used?"
            )
    return None


def _expected(request: Mapping[str, Any], response: Mapping[str, Any]) -> dict[str, Any] | str:
    """What a response must say of each field, what was asked and plays no part included; a text where no
    response could be right."""
    fields = {name: response[name] for name in DECODING_FIELDS if name in response}
    try:
        preset = DecodingParams(**fields)
    except DecodingError as error:
        return f"the server says that it used a decoding that there is not: {error}"
    try:
        decoding = resolve(request, preset)
    except DecodingError as error:
        if error.field in request and not _same(response.get(error.field), request[error.field]):
            return {error.field: request[error.field]}
        return str(error)
    return describe(decoding.params) | {name: request[name] for name in decoding.unused}


def _whole(name: str, value: Any) -> Any:
    """A count that a harness's own configuration spelt 9.0."""
    is_count = name in DECLARATIONS and DECLARATIONS[name].kind == "integer"
    return int(value) if is_count and isinstance(value, float) and value.is_integer() else value


def _same(used: Any, expected: Any) -> bool:
    if isinstance(expected, float) and isinstance(used, float):
        return math.isclose(used, expected)
    return used == expected and isinstance(used, bool) == isinstance(expected, bool)
