"""Rows of the gate as a table for a page, with each setting's verdict, and which settings pass.

    python -m llada_exp.gate.table outputs/gate/.../outcomes.jsonl [more rows ...] [--margin 2]

Rows of one kind and setting in a later file take the place of earlier ones. `--speed` takes tokens/s from
other rows: those of a run of few problems on a quiet machine, where the long run was not alone. The verdict
is the gate's (gate/verdict.py); a setting passes where it does so on every kind. Knows rows only.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from llada_exp import jsonl
from llada_exp.gate import verdict
from llada_exp.gate.verdict import Limits
from llada_exp.runs.statistics import Paired

Row = dict[str, Any]
HEADER = (
    "| kind | setting | n | accuracy, % [95 %] | against vanilla, points [95 %] | McNemar p | same text | "
    "NFE | TPF | positions per token | tokens/s | verdict |\n" + "| --- " * 12 + "|"
)


def read(paths: Iterable[Path]) -> list[Row]:
    """Raises ValueError naming a file that holds no rows of the gate."""
    rows: dict[tuple[str, str], Row] = {}
    for path in paths:
        try:
            found = jsonl.read(path)
            rows |= {(row["kind"], row["setting"]): row for row in found}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: expected rows of llada_exp.gate ({error})") from None
    return list(rows.values())


def with_speed(rows: Sequence[Row], other: Sequence[Row]) -> list[Row]:
    """`rows` with the tokens/s of `other`; None where it has none."""
    speeds = {(row["kind"], row["setting"]): row["output_throughput"] for row in other}
    return [{**row, "output_throughput": speeds.get((row["kind"], row["setting"]))} for row in rows]


def word(row: Row, limits: Limits) -> str:
    """pass, fail or undecided; "-" of vanilla."""
    if row["versus"] is None:
        return "-"
    n = row["accuracy"]["n"]
    versus = Paired(**row["versus"])
    return verdict.quality(row["setting"], row["kind"], versus, row["agreement"], n, limits).word


def line(row: Row, limits: Limits) -> str:
    a, v = row["accuracy"], row["versus"]
    accuracy = f"{100 * a['num_correct'] / a['n']:.1f} [{100 * a['low']:.1f}, {100 * a['high']:.1f}]"
    speed = "-" if row["output_throughput"] is None else f"{row['output_throughput']:.0f}"
    versus, p_value = "-", "-"
    if v is not None:
        versus = f"{100 * v['difference']:+.1f} [{100 * v['low']:+.1f}, {100 * v['high']:+.1f}]"
        p_value = f"{v['p_value']:.2g}"
    return (
        f"| {row['kind']} | {row['setting']} | {a['n']} | {accuracy} | {versus} | {p_value} | "
        f"{100 * row['agreement']:.0f} % | {row['nfe']:.1f} | {row['tpf']:.2f} | "
        f"{row['positions_per_token']:.1f} | {speed} | {word(row, limits)} |"
    )


def passing(rows: Sequence[Row], limits: Limits) -> list[str]:
    """Settings that pass on every kind there is, the fewest positions per token (mean over kinds) first."""
    kinds = {row["kind"] for row in rows}
    good: dict[str, list[float]] = {}
    for row in rows:
        if word(row, limits) == verdict.PASS:
            good.setdefault(row["setting"], []).append(row["positions_per_token"])
    whole = {name: costs for name, costs in good.items() if len(costs) == len(kinds)}
    return sorted(whole, key=lambda name: sum(whole[name]))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m llada_exp.gate.table", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("rows", nargs="+", type=Path)
    parser.add_argument("--speed", type=Path, help="rows to take tokens/s from")
    parser.add_argument("--margin", type=float, default=2.0, help="points of accuracy (%(default)g)")
    parser.add_argument("--min-agreement", type=float, default=90.0, help="percent of texts (%(default)g)")
    own = parser.parse_args(argv)
    try:
        limits = Limits(own.margin, own.min_agreement)
        rows = read(own.rows)
        if own.speed is not None:
            rows = with_speed(rows, read([own.speed]))
    except ValueError as error:
        parser.error(str(error))
    print(HEADER)
    for row in rows:
        print(line(row, limits))
    names = passing(rows, limits)
    print(f"\nPass at {own.margin:g} points, cheapest first: {', '.join(names) or 'none'}")


if __name__ == "__main__":
    main()
