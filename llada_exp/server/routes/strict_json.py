"""A body's bytes to the object in it, strictly: what two readers could read differently is refused.

JSON's grammar alone (no NaN), UTF-8, every key once, and only whole characters, for half of a surrogate pair
fails wherever the text is encoded later. Knows no field.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from typing import Any

from llada_exp.fields import shown
from llada_exp.server.routes.errors import ApiError, bad_request

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF = re.compile("[\ud800-\udfff]")


def read_object(body: bytes) -> dict[str, Any]:
    """Raises a 400 ApiError that says where the fault is."""
    try:
        tree = json.loads(body.decode("utf-8-sig"), parse_constant=_no_constant, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise _invalid(f"is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise _invalid("is nested too deeply") from None
    except ValueError as error:
        if str(error).startswith("Exceeds the limit"):  # of int()
            most = sys.get_int_max_str_digits()
            raise _invalid(f"is not JSON that can be read: an integer has more than {most} digits") from None
        raise _invalid(f"is not JSON: {error}") from None
    if not isinstance(tree, dict):
        raise _invalid("is not a JSON object")
    if _SURROGATE.search(body) and (place := _half_character(tree)) is not None:
        raise bad_request(
            f"{place or 'a key of the body'} holds half a character: a surrogate without its other half",
            place or None, "invalid_json",
        )  # fmt: skip
    return tree


def _invalid(what: str) -> ApiError:
    return bad_request(f"the body {what}", code="invalid_json")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ValueError(f"{shown(twice)} stands twice in one object")
    return tree


def _half_character(tree: dict[str, Any]) -> str | None:
    """The place of a text that holds one, or of the object with such a key ("" = the body); None: nowhere."""
    left: list[tuple[str, Any]] = [("", tree)]
    while left:
        place, value = left.pop()
        if isinstance(value, str):
            if _HALF.search(value):
                return place
        elif isinstance(value, list):
            left += [(f"{place}[{index}]", inner) for index, inner in enumerate(value) if _has_text(inner)]
        elif isinstance(value, dict):
            if any(_HALF.search(name) for name in value):
                return place
            inside = ((name, inner) for name, inner in value.items() if _has_text(inner))
            left += [(f"{place}.{name}" if place else name, inner) for name, inner in inside]
    return None


def _has_text(value: Any) -> bool:
    """Whether it is worth a place of its own among millions."""
    return bool(_HALF.search(value)) if isinstance(value, str) else isinstance(value, list | dict)
