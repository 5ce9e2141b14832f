"""JSON lines: the one reader of files that hold an object a line, those of users and our own.

A line ends in a line feed and nowhere else: U+2028, U+2029 and U+0085 are characters of a text, though
`str.splitlines` breaks there. A byte order mark, blank lines and carriage returns before the line feed are
passed over. What is wrong is named as FILE:LINE. Knows files, nothing of what the objects are about.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOTHING, LAST, ANY = "nothing", "last", "any"
"""Lines that may be cut off, and are passed over then: none; a last one without its line feed, of a process
that was killed; any, of one that went on after it."""


@dataclass(frozen=True)
class Line:
    """place: FILE:LINE, for messages; tree: the object."""

    place: str
    tree: dict[str, Any]


def lines(path: Path, cut_off: str = NOTHING) -> Iterator[Line]:
    """The objects of a file, as they are read. Raises ValueError naming file and line for what is none, and
    OSError where the file cannot be read."""
    assert cut_off in (NOTHING, LAST, ANY), cut_off
    with path.open("rb") as file:
        for number, data in enumerate(file, 1):
            data = data.removeprefix(codecs.BOM_UTF8) if number == 1 else data
            try:
                if data.strip():
                    yield Line(f"{path}:{number}", _object(data))
            except ValueError as error:
                if cut_off == ANY or (cut_off == LAST and not data.endswith(b"\n")):
                    continue
                raise ValueError(f"{path}:{number}: {error}") from None


def read(path: Path, cut_off: str = NOTHING) -> list[dict[str, Any]]:
    """The objects of a file alone. Raises as `lines` does."""
    return [line.tree for line in lines(path, cut_off)]


def _object(data: bytes) -> dict[str, Any]:
    """Raises ValueError that says what the line is instead."""
    try:
        tree = json.loads(data.decode().rstrip())
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 ({error.reason} at byte {error.start} of the line)") from None
    except RecursionError:
        raise ValueError("not JSON (too deeply nested)") from None
    except json.JSONDecodeError as error:  # its own line number is of the line, and always 1
        raise ValueError(f"not JSON ({error.msg} at character {error.pos} of the line)") from None
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from None
    if not isinstance(tree, dict):
        raise ValueError(f"a JSON {_KINDS[type(tree)]}; expected an object: {{...}}")
    return tree


_KINDS = {
    list: "array",
    str: "string",
    int: "number",
    float: "number",
    bool: "literal",
    type(None): "literal",
}
