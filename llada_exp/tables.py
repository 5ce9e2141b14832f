"""Tables for people: they fit the terminal they are printed on, and stand whole in a file.

Columns give way in the order that they say themselves; names are folded, never cut: two rows stay two. Knows
no rows' meaning, and needs the core alone.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

PLAIN_WIDTH = 120
"""Characters a line where no terminal says otherwise (COLUMNS does): in a log or a pipe."""
WHOLE_WIDTH = 100_000
GAP = 2
FOLD_WIDTH, LEAST_WIDTH = 24, 16
"""The widest column of words is folded down to the first before a column is left out, and to the second where
none can be."""


@dataclass(frozen=True)
class TableColumn:
    """heading: with the unit (`ttft_ms`); text: of a row's cell, None where it has none; rank: where there is
    too little room the highest goes first, 0 stays; left: of words, numbers stand right."""

    heading: str
    text: Callable[[Any], str | None]
    rank: int = 0
    left: bool = False


def number(heading: str, name: str, form: str, rank: int = 0) -> TableColumn:
    """Of rows that are mappings: row[name] in `form`. A form in % gives the number alone: the heading has the
    sign."""

    def text(row: Any) -> str | None:
        return None if row[name] is None else form.format(row[name]).rstrip("%")

    return TableColumn(heading, text, rank)


@dataclass(frozen=True)
class Table:
    """rows: whatever the columns' `text` reads."""

    columns: Sequence[TableColumn]
    rows: Sequence[Any]

    def text(self, width: int = WHOLE_WIDTH) -> str:
        """In lines of at most `width` characters where names can be folded so far; all of it by default."""
        layout = self.layout(width)
        return "\n".join([layout.head(), *map(layout.line, self.rows)])

    def show(self, path: Path | None = None) -> None:
        """Print it as wide as the terminal is; path: a file that gets all of it."""
        layout = self.layout(terminal_width())
        print(self.text(layout.width))
        if hint := layout.hint(path):
            print(hint)
        sys.stdout.flush()
        if path is not None:
            path.write_text(self.text() + "\n")

    def layout(self, width: int) -> TableLayout:
        columns, cells, folded = self._fitting(width)
        widths = _widths(cells)
        others = sum(w + GAP for i, w in enumerate(widths) if i != folded)
        widths[folded] = min(widths[folded], max(width - others, LEAST_WIDTH))
        left_out = [c.heading for c in self.columns if c not in columns]
        return TableLayout(width, columns, widths, folded, left_out)

    def _fitting(self, room: int) -> tuple[list[TableColumn], list[list[str]], int]:
        """The columns that there is room for; their cells: the headings, then a line a row; the column that
        is folded. Columns without any value go first."""
        columns = list(self.columns)
        empty = {c.heading for c in columns if all(c.text(row) is None for row in self.rows)}
        while True:
            cells = [[c.heading for c in columns], *([c.text(r) or "-" for c in columns] for r in self.rows)]
            widths = _widths(cells)
            folded = max(range(len(columns)), key=lambda i: (columns[i].left, widths[i]))
            can_go = [c for c in columns if c.rank]
            least = sum(w + GAP for w in widths) - GAP - max(0, widths[folded] - FOLD_WIDTH)
            if least <= room or not can_go:
                return columns, cells, folded
            columns.remove(max(can_go, key=lambda c: (c.heading in empty, c.rank)))


@dataclass(frozen=True)
class TableLayout:
    """How a table stands in `width` characters. It can be made of rows that are like those to come, and these
    printed one by one. folded: the index of the column whose cells are folded; left_out: headings."""

    width: int
    columns: Sequence[TableColumn]
    widths: Sequence[int]
    folded: int
    left_out: Sequence[str]

    def head(self) -> str:
        return self._lines([column.heading for column in self.columns])

    def line(self, row: Any) -> str:
        """A row; in several lines where its name is folded."""
        return self._lines([column.text(row) or "-" for column in self.columns])

    def hint(self, path: Path | None) -> str:
        """What there was no room for; path: where it is. Empty where all is there."""
        if not self.left_out:
            return ""
        hint = f"no room for {', '.join(self.left_out)}{f': see {path}' if path else ''}"
        return textwrap.fill(hint, self.width, break_long_words=False, break_on_hyphens=False)

    def _lines(self, cells: Sequence[str]) -> str:
        parts = [fold(text, self.widths[i]) if i == self.folded else [text] for i, text in enumerate(cells)]
        lines = []
        for line in zip_longest(*parts, fillvalue=""):
            placed = zip(self.columns, line, self.widths, strict=True)
            words = [text.ljust(w) if column.left else text.rjust(w) for column, text, w in placed]
            lines.append((" " * GAP).join(words).rstrip())
        return "\n".join(lines)


def terminal_width() -> int:
    return shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*cells, strict=True)]


def fold(name: str, width: int) -> list[str]:
    """In lines of `width` at most: cut after a comma or a space, and anywhere where there is none."""
    lines = [""]
    for piece in re.findall(r"[^, ]*[, ]+|[^, ]+", name):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        while len(piece.rstrip()) > width:
            lines[-1:] = [piece[:width], ""]
            piece = piece[width:]
        lines[-1] += piece
    return [line.rstrip() for line in lines if line] or [""]
