"""A key of the command line, declared once: its default, what it may be, and its line of help.

Hydra's defaults, the known keys, validation and `--help` are derived from declarations like these. Knows no
Hydra and no program.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from llada_exp.help import help_line, spelled
from llada_exp.validation import Flag, Text, between, check_keys, read_key, says

text, flag = Text, Flag
mapping = Annotated[dict[str, Any], says("{name: value}")]


@dataclass(frozen=True)
class Key:
    """kind: an annotation, as `validation` reads it; default: null means that the key may be left unset, and
    `unset` says in a few words what then holds."""

    name: str
    default: Any
    kind: Any
    help: str
    unset: str = ""


def defaults(keys: Iterable[Key]) -> dict[str, Any]:
    return {key.name: key.default for key in keys}


def read_keys(tree: Any, place: str, keys: Sequence[Key]) -> dict[str, Any]:
    """name -> checked value, the default where it is missing. Raises ValueError naming the key at fault."""
    values = check_keys(tree, [key.name for key in keys], place)
    values.update({key.name: values.get(key.name, key.default) for key in keys})
    return {k.name: read_key(values, k.name, k.kind | None if k.default is None else k.kind) for k in keys}


def help_lines(keys: Sequence[Key], place: str = "", indent: int = 2, width: int = 34) -> list[str]:
    """A line of `--help` for each key, `(default)` at its end; more lines where it is long."""
    lines = []
    for key in keys:
        default = f"({spelled(key.default)}{f' = {key.unset}' if key.unset else ''})"
        lines += help_line(f"{place}{key.name}", f"{key.help}  {default}".strip(), indent, width)
    return lines


def integer(low: int, high: int) -> Any:
    return Annotated[int, between(low, high)]


def one_of(*allowed: str) -> Any:
    return Literal[allowed]


def words(expected: str) -> Any:
    """A list of texts. expected: what the message says of them."""
    return Annotated[tuple[str, ...], says(expected)]
