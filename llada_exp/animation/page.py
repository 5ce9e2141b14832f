"""The animation as one HTML page that needs nothing but a browser: its script and style are in it.

What a page without a script shows is the last frame. Texts of questions and answers are whatever a model or a
person wrote: they are escaped, and reach the script as JSON in which no tag can begin.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from llada_exp.animation.frames import (
    END,
    MASK,
    NOTE,
    PROBABILITY,
    REVOKED,
    SHADES,
    Cell,
    Frame,
    blocks_at_work,
    caption,
    durations,
    frames,
    passes_in_words,
    slots,
)
from llada_exp.animation.traced import TracedAnswer

TEMPLATE = Path(__file__).with_name("page.html")


def page(answers: Sequence[TracedAnswer]) -> str:
    """A whole document, `answers` side by side. Raises ValueError for none."""
    if not answers:
        raise ValueError("no answer is there to animate")
    length = max(answer.num_touched for answer in answers)
    shown = [frames(answer, length) for answer in answers]
    data = {
        "answers": [_data(answer, one) for answer, one in zip(answers, shown, strict=True)],
        "durations": durations([len(answer.passes) for answer in answers]),
        "caption": caption(answers),
    }
    revises = any(cell.kind == REVOKED or cell.revised for one in shown for frame in one for cell in frame)
    parts = {
        "title": escape(f"{' and '.join(answer.label for answer in answers)}: one answer, pass by pass"),
        "question": escape(answers[0].question),
        "panels": "\n".join(_panel(answer, one) for answer, one in zip(answers, shown, strict=True)),
        "legend": _legend(revises),
        "caption": escape(caption(answers)),
        "data": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], TEMPLATE.read_text(encoding="utf-8"))


def inline(answers: Sequence[TracedAnswer], height: int = 560) -> str:
    """The page inside of another one, as of a notebook, whose styles and names it shares nothing with.
    height: pixels, until the page has found its cells."""
    source = escape(page(answers), quote=True)
    style = f"width:100%;height:{height}px;border:0"
    return f'<div><iframe title="one answer, pass by pass" style="{style}" srcdoc="{source}"></iframe></div>'


def _data(answer: TracedAnswer, shown: Sequence[Frame]) -> dict[str, Any]:
    """changes: for each frame [position, classes, text, words] of each cell that is not as it was before."""
    nothing: Frame = (Cell("none"),) * len(shown[0])
    changes = [
        [[i, *_look(i, cell)] for i, (cell, before) in enumerate(zip(after, earlier, strict=True))
         if cell != before]
        for earlier, after in zip([nothing, *shown], shown, strict=False)
    ]  # fmt: skip
    return {"passes": len(answer.passes), "blocks": blocks_at_work(answer), "changes": changes}


def _look(position: int, cell: Cell) -> tuple[str, str, str]:
    """Classes, text, and words for who points at it."""
    classes = ["t", cell.kind]
    if cell.kind not in (MASK, REVOKED):
        classes.append(f"s{cell.shade}")
    if cell.revised:
        classes.append("revised")
    words = f"position {position}"
    if cell.step is not None:
        done = "taken back by" if cell.kind == REVOKED else "committed by"
        words += f", {done} pass {cell.step + 1}"
    if cell.confidence is not None:
        words += f", probability {cell.confidence:.6f}"
    return " ".join(classes), cell.glyphs, words


def _panel(answer: TracedAnswer, shown: Sequence[Frame]) -> str:
    count = len(answer.passes)
    return (
        f'<section class="panel"><h2>{escape(answer.label)}</h2>'
        f'<p class="setting">{escape(answer.setting)}</p>'
        f'<p class="counter"><b>{count}</b> of {passes_in_words(count)}</p><div class="bar"><i></i></div>'
        f"{''.join(_blocks(answer, shown))}"
        f'<p class="beyond">{_beyond(answer, len(shown[0]))}</p></section>'
    )


def _beyond(answer: TracedAnswer, length: int) -> str:
    rest = answer.length - length
    return f"and {rest} masks that were never needed" if rest > 0 else ""


def _blocks(answer: TracedAnswer, shown: Sequence[Frame]) -> Iterator[str]:
    places = slots(answer, shown)
    for start in range(0, len(places), answer.block_length):
        spans = []
        for i in range(start, min(start + answer.block_length, len(places))):
            classes, text, words = _look(i, shown[-1][i])
            width, ends_line = places[i]
            spans.append(
                f'<span class="{classes}" style="width:{width}ch" title="{escape(words)}">'
                f"{escape(text)}</span>{'<br>' if ends_line else ''}"
            )
        number = start // answer.block_length + 1
        yield f'<div class="block"><small>block {number}</small>{"".join(spans)}</div>'


def _legend(revises: bool) -> str:
    shades = [(f"t token s{i}", "", name) for i, name in enumerate(SHADES)]
    others = [("t mask", "", "mask"), ("t new s5", "", "of this pass"), ("t token s5", END, "end of text")]
    if revises:
        others += [("t revoked", "7", "taken back"), ("t token s5 revised", "", "replaces another one")]
    return f"<div>{PROBABILITY} {_entries(shades)}</div><div>{_entries(others)} {NOTE}</div>"


def _entries(entries: Sequence[tuple[str, str, str]]) -> str:
    return "".join(
        f'<span class="entry"><span class="{classes}" style="width:2ch">{text}</span> {name}</span>'
        for classes, text, name in entries
    )
