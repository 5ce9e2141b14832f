"""A key of the command line, declared once: its default, what it may be, and its line of help.

Hydra's defaults, the known keys, validation and `--help` are derived from declarations like these. Knows no
Hydra and no program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llada_exp.help import help_line, spelled
from llada_exp.runs.settings import read_flag
from llada_exp.settings import Node

Read = Callable[[Node, str], Any]
"""(mapping, name) -> the checked value. Raises ValueError naming the key, the value and what is allowed."""


@dataclass(frozen=True)
class Key:
    """default: null means that the key may be left unset, and `unset` says in a few words what then holds."""

    name: str
    default: Any
    read: Read
    help: str
    unset: str = ""

    def value(self, node: Node) -> Any:
        """The checked value of the key in `node`, the default where it is missing there."""
        given = node.tree.get(self.name, self.default)
        if given is None and self.default is None:
            return None
        return self.read(Node({self.name: given}, node.place.rstrip("."), (self.name,)), self.name)


def defaults(keys: Iterable[Key]) -> dict[str, Any]:
    return {key.name: key.default for key in keys}


def read_keys(node: Node, keys: Iterable[Key]) -> dict[str, Any]:
    """name -> checked value. Raises ValueError naming the key at fault."""
    return {key.name: key.value(node) for key in keys}


def help_lines(keys: Sequence[Key], place: str = "", indent: int = 2, width: int = 34) -> list[str]:
    """A line of `--help` for each key, `(default)` at its end; more lines where it is long."""
    found = []
    for key in keys:
        default = f"({spelled(key.default)}{f' = {key.unset}' if key.unset else ''})"
        found += help_line(f"{place}{key.name}", f"{key.help}  {default}".strip(), indent, width)
    return found


def text(node: Node, name: str) -> Any:
    return node.text(name)


def flag(node: Node, name: str) -> bool:
    return read_flag(node, name)


def integer(low: int, high: int) -> Read:
    return lambda node, name: node.integer(name, low, high)


def number(low: float, high: float) -> Read:
    return lambda node, name: node.number(name, low, high)


def one_of(*allowed: str) -> Read:
    return lambda node, name: node.one_of(name, allowed)


def mapping(node: Node, name: str) -> dict[str, Any]:
    """{name: value}, of whatever is inside."""
    value = node[name]
    if not isinstance(value, Mapping):
        raise ValueError(f"{node.place}{name} is {value!r}; expected {{name: value}} or null")
    return {str(key): inside for key, inside in value.items()}


def words(expected: str) -> Read:
    """A list of texts. expected: what the message says of them."""

    def read(node: Node, name: str) -> tuple[str, ...]:
        value = node[name]
        if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
            raise ValueError(f"{node.place}{name} is {value!r}; expected {expected}")
        return tuple(value)

    return read
