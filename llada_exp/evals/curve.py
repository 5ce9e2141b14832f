"""Scores against training steps: the table that a sweep ends with, and its figure.

Works on result rows (one per benchmark and checkpoint); knows no file, no model and no tracker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llada_exp.types import PRESET_FIELDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # Okabe and Ito
MARKERS = "osD^vP"
SIZE = (6.0, 3.8)
SETTINGS = ("sweep", "harness", *PRESET_FIELDS, "prompt", "chat_template", "seed")
"""Columns that may differ between evaluations of one checkpoint on one benchmark."""
_COLUMNS = (
    # heading, width, column, format
    ("cut off %", 9, "cut_off", "{:.1%}"),
    ("no answer %", 11, "no_answer", "{:.1%}"),
    ("failed", 6, "failed", "{:.0f}"),
    ("tokens", 7, "mean_output_tokens", "{:.1f}"),
    ("NFE", 6, "mean_nfe", "{:.1f}"),
    ("TPF", 5, "tpf", "{:.2f}"),
)
_REASON_WIDTH = 200


def table(rows: Sequence[Row], problems: Mapping[int, str] | None = None) -> str:
    """One line per benchmark and step, by step; `-` is unknown. Shares in %, per problem where a number
    is a mean.

    problems: step -> why it has no row: a damaged checkpoint, or an evaluation that failed.
    """
    problems = problems or {}
    lines = [(_step(row), _line(row)) for row in rows]
    lines += [(step, f"{step:>8} {'-':<16} no score: {_short(why)}") for step, why in problems.items()]
    head = f"{'step':>8} {'benchmark':<16} {'n':>6} {'accuracy % [95 %]':<20} "
    head += " ".join(f"{name:>{width}}" for name, width, _, _ in _COLUMNS)
    return "\n".join([head, *(text for _, text in sorted(lines, key=lambda pair: pair[0]))])


def _step(row: Row) -> int:
    step = row["checkpoint_step"]
    return -1 if step is None else int(step)


def _line(row: Row) -> str:
    accuracy = "-"
    if row["accuracy"] is not None:
        accuracy = f"{100 * row['accuracy']:5.1f}"
        if row["accuracy_low"] is not None:
            accuracy += f" [{100 * row['accuracy_low']:.1f}, {100 * row['accuracy_high']:.1f}]"
    cells = " ".join(
        f"{'-' if row[name] is None else form.format(row[name]).rstrip('%'):>{width}}"
        for _, width, name, form in _COLUMNS
    )
    step, n = (
        "-" if row[name] is None else f"{row[name]:.0f}" for name in ("checkpoint_step", "num_problems")
    )
    return f"{step:>8} {_name(row):<16} {n:>6} {accuracy:<20} {cells}"


def _name(row: Row) -> str:
    """The benchmark, with its number of samples where there are several."""
    several = row["num_samples"] is not None and row["num_samples"] > 1
    return f"{row['benchmark']}:{row['num_samples']:.0f}" if several else str(row["benchmark"])


def _short(why: str) -> str:
    line = " ".join(why.split())
    return line if len(line) <= _REASON_WIDTH else line[: _REASON_WIDTH - 3] + "..."


def lines(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """What a figure over steps joins: label -> rows with an accuracy, by step. One line per benchmark, and
    per sweep and per setting where rows of the same benchmark and step differ in them."""
    scored = [row for row in rows if row["accuracy"] is not None and row["checkpoint_step"] is not None]
    places: dict[tuple[str, int], list[Row]] = {}
    for row in scored:
        places.setdefault((_name(row), _step(row)), []).append(row)
    varying = [
        name for name in SETTINGS if any(len({r.get(name) for r in own}) > 1 for own in places.values())
    ]
    found: dict[str, list[Row]] = {}
    for row in sorted(scored, key=_step):
        told = [_setting(name, row.get(name)) for name in varying]
        found.setdefault(", ".join([_name(row), *told]), []).append(row)
    return found


def _setting(name: str, value: Any) -> str:
    """As a label; numbers that a parquet made floats are shown as they were."""
    return f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"


def plot(rows: Sequence[Row], problems: Mapping[int, str] | None = None) -> Figure:
    """The figure that `draw` fills."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    draw(figure.add_subplot(), rows, problems)
    return figure


def draw(axis: Axes, rows: Sequence[Row], problems: Mapping[int, str] | None = None) -> None:
    """Accuracy against the training step with 95 % intervals, by `lines`. Steps without a score
    (`problems`, as for `table`, and rows without an accuracy) are crosses on the axis."""
    from matplotlib.ticker import MaxNLocator

    for i, (name, own) in enumerate(lines(rows).items()):
        _draw_line(axis, own, name, COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)])
    unscored = {_step(row) for row in rows if row["accuracy"] is None and row["checkpoint_step"] is not None}
    scored = {_step(row) for row in rows if row["accuracy"] is not None}
    lost = sorted({*(problems or {}), *unscored} - scored)  # perplexities stand beside scores
    if lost:
        crosses = axis.plot(lost, [0.0] * len(lost), "kx", label="no score", zorder=3)
        crosses[0].set_clip_on(False)  # they stand on the frame
    axis.set(xlabel="training step", ylabel="accuracy, %")
    axis.set_ylim(bottom=0)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8, frameon=False)


def _draw_line(axis: Axes, rows: Sequence[Row], name: str, colour: str, marker: str) -> None:
    """One benchmark, by step."""
    x = [_step(row) for row in rows]
    y = [100 * row["accuracy"] for row in rows]
    sides = (("accuracy_low", -1), ("accuracy_high", 1))
    spread = [
        [0.0 if r[side] is None else max(0.0, sign * 100 * (r[side] - r["accuracy"])) for r in rows]
        for side, sign in sides
    ]
    axis.errorbar(x, y, yerr=spread, capsize=3, color=colour, marker=marker, markersize=5, label=name)
