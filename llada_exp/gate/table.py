"""Rows of the gate as a table for a page, with each setting's verdict, and which settings pass.

    python -m llada_exp.gate.table outputs/gate/.../outcomes.jsonl [more rows ...] [--margin 2] [--canvas]

Rows of one kind, setting and canvas in a later file take the place of earlier ones. `--speed` takes tokens/s
from other rows: those of a run of few problems on a quiet machine, where the long run was not alone.
`--canvas`: a column a canvas, instead. The verdict is the gate's (gate/verdict.py); a setting passes where it
does so on every kind and canvas. Knows rows only.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from llada_exp.gate.outcome import Outcome, read_outcomes
from llada_exp.gate.report import figures, word
from llada_exp.gate.summary import by_canvas, scope
from llada_exp.gate.verdict import PASS, Limits
from llada_exp.programs import run_program

HEADER = (
    "| kind | canvas | setting | margin | n | accuracy, % [95 %] | against vanilla, points [95 %] | "
    "McNemar p | same text | NFE | TPF | positions per token | tokens/s | verdict |\n" + "| --- " * 14 + "|"
)


def read(paths: Iterable[Path]) -> list[Outcome]:
    """Raises ValueError naming a file that holds no rows of the gate."""
    return list({o.place: o for path in paths for o in read_outcomes(path)}.values())


def with_speed(outcomes: Sequence[Outcome], others: Sequence[Outcome]) -> list[Outcome]:
    """`outcomes` with the tokens/s of `others`; nan where there are none."""
    speeds = {o.place: o.output_throughput for o in others}
    return [replace(o, output_throughput=speeds.get(o.place, math.nan)) for o in outcomes]


def line(outcome: Outcome, limits: Limits) -> str:
    cells = figures(outcome)
    cells["same %"] += " %"
    canvas = "-" if outcome.canvas is None else str(outcome.canvas)
    head = [outcome.kind, canvas, outcome.setting, f"{limits.margin_of(outcome):g}"]
    return f"| {' | '.join([*head, *cells.values(), word(outcome, limits)])} |"


def passing(outcomes: Sequence[Outcome], limits: Limits) -> list[str]:
    """Settings that pass on every kind and canvas there is, the fewest positions per token (mean) first."""
    places = {(o.kind, o.canvas) for o in outcomes}
    costs: defaultdict[str, list[float]] = defaultdict(list)
    for o in outcomes:
        if word(o, limits) == PASS:
            costs[o.setting].append(o.positions_per_token)
    return sorted((s for s in costs if len(costs[s]) == len(places)), key=lambda s: sum(costs[s]))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m llada_exp.gate.table", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("rows", nargs="+", type=Path)
    parser.add_argument("--speed", type=Path, help="rows to take tokens/s from")
    parser.add_argument("--margin", type=float, help="points of accuracy, of all kinds (each its own)")
    parser.add_argument("--canvas", action="store_true", help="accuracy against the canvas")
    parser.add_argument("--min-agreement", type=float, default=90.0, help="percent of texts (%(default)g)")
    args = parser.parse_args(argv)
    try:
        limits = Limits(args.margin, args.min_agreement)
        outcomes = read(args.rows)
        if args.speed is not None:
            outcomes = with_speed(outcomes, read([args.speed]))
    except ValueError as error:
        parser.error(str(error))
    if args.canvas:
        print(by_canvas(outcomes))
        return
    print(HEADER, *(line(o, limits) for o in outcomes), sep="\n")
    names = passing(outcomes, limits)
    print(f"\nPass, cheapest first: {', '.join(names) or 'none'} ({scope(outcomes, limits)})")


if __name__ == "__main__":
    run_program(main)
