"""Values of a configuration, checked by annotations: `Annotated[int, between(1, 64)]` beside a field is all
that is to be written of it.

pydantic checks a value strictly; the error's one line is derived from the same annotation, and names the key,
the value and what is allowed. Knows no program.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from llada_exp import decoding_keys
from llada_exp.types import REQUEST_FIELDS

Checked = TypeVar("Checked")
MAX_TIME_S = 7 * 86400.0


def between(low: float, high: float) -> Any:
    """Of an int or a float, both ends included; a float is finite."""
    facts: dict[str, Any] = {"allow_inf_nan": False} if isinstance(high, float) else {}
    return Field(strict=True, ge=low, le=high, **facts)


def says(expected: str, **facts: Any) -> Any:
    """For what the type does not say by itself: the words of the message."""
    return Field(description=expected, **facts)


def that(holds: Callable[[Any], bool]) -> Any:
    """For what no type and no bound says, beside `says`."""

    def check(value: Any) -> Any:
        if not holds(value):
            raise ValueError
        return value

    return AfterValidator(check)


one_or_more = BeforeValidator(lambda value: value if isinstance(value, list | tuple) else [value])
"""For a list that may be one value alone."""
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, says("a non-empty text", strict=True, min_length=1)]
FolderName = Annotated[
    str,
    BeforeValidator(str),
    says("the name of a folder, without spaces and slashes", pattern=r"^[^./\\ \n][^/\\ \n]*$"),
]
Seconds = Annotated[float, between(0.001, MAX_TIME_S)]


def read(kind: type[Checked], tree: Any, place: str = "", **parts: Any) -> Checked:
    """The dataclass `kind` that `tree` holds: a value for each field, of its annotation, and nothing else.

    place: dotted, of the tree; parts: fields that are checked already. Raises ValueError naming the key, the
    value and what is allowed.
    """
    return read_fields(kind, check_keys(tree, get_type_hints(kind), place), **parts)


def read_fields(kind: type[Checked], tree: Keys, **parts: Any) -> Checked:
    """As `read`, where `tree` holds other keys beside those of `kind`."""
    hints = get_type_hints(kind, include_extras=True)
    return kind(**parts, **{key: read_key(tree, key, hints[key]) for key in hints if key not in parts})


def read_key(tree: Keys, key: str, hint: Any) -> Any:
    """The value of one key, checked by an annotation. Raises ValueError as `read`."""
    name, value = tree.prefix + key, tree[key]
    if is_dataclass(hint):
        return read(hint, value, name)  # type: ignore[arg-type]
    try:
        return _adapter(hint).validate_python(value)
    except ValidationError as error:
        cause = str(error.errors()[0].get("ctx", {}).get("error", ""))
        if cause:  # of a validator of ours, which begins with the key
            raise ValueError(tree.prefix + cause) from None
        raise ValueError(f"{name} is {value!r}; expected {expected(hint)}") from None


class Keys(dict[str, Any]):
    """Values by key. Raises ValueError for one that is missing, with its dotted place."""

    prefix = ""

    def __missing__(self, key: str) -> Any:
        raise ValueError(f"{self.prefix}{key} is missing")

    def child(self, key: str, allowed: Iterable[str]) -> Keys:
        """The mapping at `key`. Raises ValueError as `check_keys`."""
        return check_keys(self[key], allowed, self.prefix + key)


def check_keys(
    tree: Any, allowed: Iterable[str], place: str = "", moved: Mapping[str, str] | None = None
) -> Keys:
    """The keys of `tree`, of the mapping at `place`. moved: old spelling of a key -> the new one. Raises
    ValueError naming a key that is not allowed, or where `tree` is no mapping."""
    names = list(allowed)
    if not hasattr(tree, "items"):
        raise ValueError(f"{place} is {tree!r}; expected the keys {', '.join(names)}")
    prefix = f"{place}." if place else ""
    for key in map(str, tree):
        if key not in names:
            raise ValueError(unknown_key_message(prefix + key, [prefix + name for name in names], moved))
    keys = Keys({str(key): value for key, value in tree.items()})
    keys.prefix = prefix
    return keys


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint)


def expected(hint: Any) -> str:
    """What an annotation allows, in words."""
    *words, last = _words(_adapter(hint).json_schema())
    return f"{', '.join(words)} or {last}" if words else last


def _words(schema: Mapping[str, Any]) -> list[str]:
    if "description" in schema:
        return [schema["description"]]
    if "anyOf" in schema:
        return [word for branch in schema["anyOf"] for word in _words(branch)]
    if "enum" in schema:
        return [f"one of {', '.join(map(str, schema['enum']))}"]
    if "const" in schema:
        return [str(schema["const"])]
    if schema["type"] == "integer":
        return [f"an integer from {schema['minimum']} to {schema['maximum']}"]
    if schema["type"] == "number":
        return [f"a number from {schema['minimum']:g} to {schema['maximum']:g}"]
    return {"boolean": ["true", "false"], "null": ["null"]}[schema["type"]]


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that `name` was probably meant to be; two, where it might be either."""
    return " or ".join(close(name, names, 0.6)) or None


def close(name: str, names: Iterable[str], cutoff: float) -> list[str]:
    """At most two, the nearest first. cutoff: from 0, any, to 1, the same."""
    names = list(dict.fromkeys(names))
    if len(name) > 2 * max(map(len, names), default=0):
        return []  # beyond the cutoff, and of a million letters it takes seconds to find out
    return difflib.get_close_matches(name.lower(), names, n=2, cutoff=cutoff)


def unknown_key_message(key: str, keys: Iterable[str], moved: Mapping[str, str] | None = None) -> str:
    """keys: those that there are, dotted; moved: old spelling of a key -> the new one."""
    if moved and key in moved:
        return f"{key} is now {moved[key]}"
    names = sorted(keys)
    if key in names:  # of ~key and key@place
        return f"{key} cannot be taken away or put elsewhere; write {key}=VALUE"
    group, _, name = key.partition(".")
    if group == decoding_keys.DECODING and name in REQUEST_FIELDS:
        return f"unknown key {key}; it is a field of single requests, and no key of this program"
    guess = nearest(key, names)
    hint = f"did you mean {guess}?" if guess else f"known keys: {', '.join(names)}"
    return f"unknown key {key}; {hint}"
