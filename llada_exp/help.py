"""The lines of `--help` on one key: its name, what it means, and its default, folded."""

from __future__ import annotations

import textwrap
from typing import Any

WIDTH = 110


def help_line(name: str, text: str, indent: int = 2, width: int = 34) -> list[str]:
    """`name` and what it means, folded under itself; width: of the column of names."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{'':{indent}}{name:<{width - 1}} ",
        subsequent_indent=" " * (indent + width),
        break_long_words=False,
        break_on_hyphens=False,
    )


def spelled(value: Any) -> str:
    """A value as one writes it on the command line."""
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(spelled, value))}]"
    return str(value)
