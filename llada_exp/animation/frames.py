"""What each position shows after each pass, and for how long a frame stands. Knows no format of pictures."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from unicodedata import combining, east_asian_width

from llada_exp.animation.traced import TracedAnswer

MASK, NEW, TOKEN, REVOKED = "mask", "new", "token", "revoked"
"""Kinds of a cell: a mask; a token of this pass; one of an earlier pass; one that this pass took back."""
BOUNDS = (0.5, 0.9, 0.99, 0.999, 0.9999)
SHADES = ("less", "0.5", "0.9", "0.99", "0.999", "0.9999")
"""The least confidence of a shade, in words; one more than BOUNDS."""
PROBABILITY = "probability when committed, at least:"
NOTE = "one frame is one pass of each"
WIDEST = 14
END = "∎"
_GLYPHS = str.maketrans({"\n": "↵", "\r": "↵", "\t": "→"})
FIRST_MS, LAST_MS, SLOW_MS, QUICK_MS = 1500, 5000, (120, 900), (50, 300)
SLOW_TOTAL_MS, QUICK_TOTAL_MS = 4000, 8000


@dataclass(frozen=True)
class Cell:
    """A position after a pass. token: its text, of REVOKED that which was taken back; step: the pass, from 0,
    that committed or took it; revised: another token stood here before."""

    kind: str
    token: str = ""
    confidence: float | None = None
    step: int | None = None
    revised: bool = False

    @property
    def shade(self) -> int:
        """0 is the least sure."""
        return bisect_right(BOUNDS, self.confidence or 0.0)

    @property
    def glyphs(self) -> str:
        """The token in one line of few printable characters; "" of a mask."""
        if self.kind == MASK:
            return ""
        text = self.token.removeprefix("bytes:").translate(_GLYPHS) or END
        text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
        return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


Frame = tuple[Cell, ...]


def frames(answer: TracedAnswer, length: int | None = None) -> list[Frame]:
    """One frame a pass, behind a first one of masks alone. length: positions, by default all."""
    cells = [Cell(MASK)] * answer.length
    shown = [tuple(cells[:length])]
    for step, one in enumerate(answer.passes):
        cells = [_settled(cell) for cell in cells]
        for place in one.revoked:
            cells[place] = replace(cells[place], kind=REVOKED, step=step, revised=True)
        for token in one.written:
            before = cells[token.position]
            revised = before.revised or before.kind != MASK
            cells[token.position] = Cell(NEW, token.text, token.confidence, step, revised)
        shown.append(tuple(cells[:length]))
    return shown


def frame_at(shown: Sequence[Frame], number: int) -> Frame:
    """Of an answer that is done, the last one, in which nothing is new any more."""
    return shown[number] if number < len(shown) else tuple(_settled(cell) for cell in shown[-1])


def _settled(cell: Cell) -> Cell:
    """As it stands one pass later."""
    if cell.kind == REVOKED:
        return Cell(MASK, revised=True)
    return replace(cell, kind=TOKEN) if cell.kind == NEW else cell


def blocks_at_work(answer: TracedAnswer) -> list[int]:
    """The block of each frame's pass; of the first frame, the first."""
    blocks = [0]
    for one in answer.passes:
        places = [*one.revoked, *(w.position for w in one.written)]
        blocks.append(places[0] // answer.block_length if places else blocks[-1])
    return blocks


def slots(answer: TracedAnswer, shown: Sequence[Frame]) -> list[tuple[int, bool]]:
    """Each position's width in characters, the same in every frame, so that nothing moves when a mask is
    filled in; and whether a line ends behind it, as its last token says."""
    widths = [max(1, *(columns(frame[i].glyphs) for frame in shown)) for i in range(len(shown[0]))]
    return [(width, "\n" in cell.token) for width, cell in zip(widths, shown[-1], strict=True)]


def columns(text: str) -> int:
    """Of a monospaced font: Chinese and its like take two a character, accents none."""
    return sum(2 if east_asian_width(c) in "WF" else not combining(c) for c in text)


def durations(counts: Sequence[int]) -> list[int]:
    """Milliseconds of each frame, for answers of so many passes. A frame is one pass of each answer that is
    not done. They pass slowly while at least two decode, and faster while the last one is alone."""
    *others, longest = sorted(counts)
    shared = others[-1] if others else longest
    slow = _within(SLOW_TOTAL_MS / max(shared, 1), SLOW_MS)
    quick = _within(QUICK_TOTAL_MS / max(longest - shared, 1), QUICK_MS)
    between = [slow] * shared + [quick] * (longest - shared)
    return [FIRST_MS, *between[:-1], LAST_MS]


def _within(value: float, bounds: tuple[int, int]) -> int:
    """In hundredths of a second, as GIFs count."""
    return 10 * round(min(max(value, bounds[0]), bounds[1]) / 10)


def caption(answers: Sequence[TracedAnswer]) -> str:
    """What is to be seen at the end: passes, and whether the texts agree."""
    if len(answers) == 1:
        return passes_in_words(len(answers[0].passes))
    counts = " against ".join(f"{len(answer.passes)}" for answer in answers)
    same = "the same answer" if len({answer.text for answer in answers}) == 1 else "the answers differ"
    return f"{counts} passes: {same}"


def passes_in_words(count: int) -> str:
    return f"{count} pass" if count == 1 else f"{count} passes"
