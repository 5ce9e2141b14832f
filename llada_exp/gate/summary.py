"""What a run of the gate comes to: its scope in a line, and accuracy against the canvas as a table."""

from __future__ import annotations

from collections.abc import Sequence

from llada_exp.gate.outcome import HttpSample, Outcome
from llada_exp.gate.verdict import Limits


def scope(outcomes: Sequence[Outcome], limits: Limits) -> str:
    """`canvas 256, 1024; within 1 point: sums, differences; within 2: long`; empty of no outcomes."""
    if not outcomes:
        return ""
    kinds: dict[float, list[str]] = {}
    for outcome in outcomes:
        of_margin = kinds.setdefault(limits.margin_of(outcome), [])
        if outcome.kind not in of_margin:
            of_margin.append(outcome.kind)
    canvas = ", ".join(str(c) for c in dict.fromkeys(o.canvas for o in outcomes))
    margins = (f"within {m:g}: {', '.join(names)}" for m, names in sorted(kinds.items()))
    return f"canvas {canvas}; points {'; '.join(margins)}"


def over_http(sample: HttpSample) -> str:
    """A line."""
    return f"over HTTP, canvas {sample.canvas}: {sample.num_equal} of {sample.n} answers are the engine's"


def by_canvas(outcomes: Sequence[Outcome]) -> str:
    """A table for a page: a row a kind and setting, a column a canvas. In a cell the percentage of right
    answers; of a setting also how many are lost and gained against vanilla, and the passes of an answer."""
    canvases = sorted({o.canvas for o in outcomes if o.canvas is not None})
    cells = {o.place: _cell(o) for o in outcomes}
    lines = [["kind", "setting", "n", *map(str, canvases)], ["---"] * (3 + len(canvases))]
    for kind, setting, n in dict.fromkeys((o.kind, o.setting, o.accuracy.n) for o in outcomes):
        lines.append([kind, setting, str(n), *(cells.get((kind, setting, c), "-") for c in canvases)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(outcome: Outcome) -> str:
    right = f"{100 * outcome.accuracy.value:.1f}"
    versus = outcome.versus
    return right if versus is None else f"{right} (-{versus.lost} +{versus.gained}), {outcome.nfe:.1f} passes"
