"""Tables for people: they fit the terminal they are printed on, and stand whole in a file.

Columns give way in the order that they say themselves; names are folded, never cut: two rows stay two, and no
number is taken apart. Knows no rows' meaning, and needs the core alone.
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
FOLD_WIDTH, LEAST_WIDTH, TIGHT_WIDTH = 24, 16, 8
"""The widest column of words is folded down to the first before a column is left out, to the second where
none can be; then one after the other all that are left, down to the third."""
_SIGNS = re.compile(r"[_/=:]|(?<!\d[eE])[-+]")
"""After which a word may be cut; 1e-05 is one."""


@dataclass(frozen=True)
class TableColumn:
    """heading: with the unit (`ttft_ms`); text: of a row's cell, None where it has none; rank: where there is
    too little room the highest goes first, 0 stays; left: of words, numbers stand right; whole: of words that
    are not folded, since they are there to be pasted."""

    heading: str
    text: Callable[[Any], str | None]
    rank: int = 0
    left: bool = False
    whole: bool = False

    @property
    def folds(self) -> bool:
        return self.left and not self.whole


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

    def show(self, path: Path | None = None, whole: Sequence[Any] | None = None) -> None:
        """Print it as wide as the terminal is; path: a file that gets all of it. whole: the rows of the file,
        where these are a part of them."""
        layout = self.layout(terminal_width())
        print(self.text(layout.width))
        if hint := layout.hint(path):
            print(hint)
        sys.stdout.flush()
        if path is not None:
            path.write_text(Table(self.columns, whole or self.rows).text() + "\n")

    def layout(self, width: int) -> TableLayout:
        columns, cells = self._fitting(width)
        widths = _widths(cells)
        for least in (FOLD_WIDTH, LEAST_WIDTH, TIGHT_WIDTH):
            folds = sorted((i for i, c in enumerate(columns) if c.folds), key=lambda i: -widths[i])
            for i in folds[:1] if least > TIGHT_WIDTH else folds:
                too_wide = sum(widths) + GAP * (len(widths) - 1) - width
                widths[i] -= max(0, min(too_wide, widths[i] - max(least, len(columns[i].heading))))
        return TableLayout(width, columns, widths, [c.heading for c in self.columns if c not in columns])

    def _fitting(self, room: int) -> tuple[list[TableColumn], list[list[str]]]:
        """The columns that there is room for once the widest name is folded; their cells: the headings, then
        a line a row. Columns without any value go first."""
        columns = list(self.columns)
        empty = {c.heading for c in columns if all(c.text(row) is None for row in self.rows)}
        while True:
            cells = [[c.heading for c in columns], *([c.text(r) or "-" for c in columns] for r in self.rows)]
            widths = _widths(cells)
            widest = max((w for c, w in zip(columns, widths, strict=True) if c.folds), default=0)
            can_go = [c for c in columns if c.rank]
            least = sum(w + GAP for w in widths) - GAP - max(0, widest - FOLD_WIDTH)
            if least <= room or not can_go:
                return columns, cells
            columns.remove(max(can_go, key=lambda c: (c.heading in empty, c.rank)))


@dataclass(frozen=True)
class TableLayout:
    """How a table stands in `width` characters. It can be made of rows that are like those to come, and these
    printed one by one. left_out: headings."""

    width: int
    columns: Sequence[TableColumn]
    widths: Sequence[int]
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
        return wrapped(f"no room for {', '.join(self.left_out)}{f': see {path}' if path else ''}", self.width)

    def _lines(self, cells: Sequence[str]) -> str:
        parts = [
            fold(text, width) if column.folds else [text]
            for column, text, width in zip(self.columns, cells, self.widths, strict=True)
        ]
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


def wrapped(text: str, width: int | None = None, indent: str = "") -> str:
    """Each line in lines of `width` (the terminal's) at most, the later ones indented; a longer word (a path)
    stays whole."""
    wrapper = textwrap.TextWrapper(
        width or terminal_width(), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(map(wrapper.fill, text.splitlines()))


def fold(name: str, width: int) -> list[str]:
    """In lines of `width` at most: cut after a comma or a space; where there is none after a sign between
    words, else anywhere but in a number that has room in a line."""
    lines = [""]
    for piece in re.findall(r"[^, ]*[, ]+|[^, ]+", name):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        while len(piece.rstrip()) > width:
            end = _cut(piece, width)
            lines[-1:] = [piece[:end], ""]
            piece = piece[end:]
        lines[-1] += piece
    return [line.rstrip() for line in lines if line] or [""]


def _cut(text: str, width: int) -> int:
    """Where to cut a word that has no room: in the second half, or at the very end of the line."""
    ends = [match.end() for match in re.finditer(_SIGNS, text[:width]) if match.end() > width // 2]
    if ends:
        return ends[-1]
    numbers = (match.span() for match in re.finditer(r"[\d.]+", text))
    return next((start for start, end in numbers if 0 < start < width < end <= start + width), width)
