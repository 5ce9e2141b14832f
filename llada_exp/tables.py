"""Tables for people: they fit the terminal they are printed on, and stand whole in a file.

Columns give way in the order that they say themselves; names are folded, never cut: two rows stay two. Knows
no rows' meaning.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import IO, Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable

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
        """Without colours, in lines of at most `width` characters; all of it by default."""
        file = StringIO()
        self._print(_console(file, width, color_system=None, force_terminal=False))
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines())

    def show(self, path: Path | None = None) -> None:
        """Print it as wide as the terminal is; path: a file that gets all of it."""
        width = shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns
        if sys.stdout.isatty():
            self._print(_console(sys.stdout, width))
        else:
            print(self.text(width))
        if left_out := [c.heading for c in self.columns if c not in self._fitting(width)[0]]:
            hint = f"no room for {', '.join(left_out)}{f': see {path}' if path else ''}"
            print(textwrap.fill(hint, width, break_long_words=False, break_on_hyphens=False))
        sys.stdout.flush()
        if path is not None:
            path.write_text(self.text() + "\n")

    def _print(self, console: Console) -> None:
        columns, cells, folded = self._fitting(console.width)
        widths = _widths(cells)
        others = sum(w + GAP for i, w in enumerate(widths) if i != folded)
        fold_width = min(widths[folded], max(console.width - others, LEAST_WIDTH))
        table = RichTable(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column.heading, justify="left" if column.left else "right", no_wrap=True)
        for line in cells[1:]:
            table.add_row(*("\n".join(fold(t, fold_width)) if i == folded else t for i, t in enumerate(line)))
        console.print(table)

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


def _console(file: IO[str], width: int, **options: Any) -> Console:
    """One that takes no text for anything but text: intervals stand in brackets, as markup does."""
    return Console(file=file, width=width, markup=False, highlight=False, emoji=False, **options)


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(*cells, strict=True)]


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
    return [line.rstrip() for line in lines if line]
