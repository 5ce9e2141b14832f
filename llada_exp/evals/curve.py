"""Scores against training steps, as a figure.

Works on result rows (one per benchmark and checkpoint); knows no file, no model and no tracker.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llada_exp.evals.report import benchmark_name
from llada_exp.types import PRESET_FIELDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # Okabe and Ito
MARKERS = "osD^vP"
SIZE = (6.0, 3.8)
LIMITS = (-4, 104)
"""Of the axis of accuracies, %: a marker at 0 or 100 stands inside."""
SETTINGS = ("sweep", "harness", *PRESET_FIELDS, "prompt", "chat_template", "seed")
"""Columns that may differ between evaluations of one checkpoint on one benchmark."""


def _step(row: Mapping[str, Any]) -> int:
    step = row["checkpoint_step"]
    return -1 if step is None else int(step)


def lines(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """What a figure over steps joins: label -> rows with an accuracy, by step. One line per benchmark, and
    per sweep and per setting where rows of the same benchmark and step differ in them."""
    scored = [row for row in rows if row["accuracy"] is not None and row["checkpoint_step"] is not None]
    places: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in scored:
        places.setdefault((benchmark_name(row), _step(row)), []).append(row)
    varying = [
        name for name in SETTINGS if any(len({r.get(name) for r in same}) > 1 for same in places.values())
    ]
    joined: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(scored, key=_step):
        label = [benchmark_name(row), *(_setting(name, row.get(name)) for name in varying)]
        joined.setdefault(", ".join(label), []).append(row)
    return joined


def _setting(name: str, value: Any) -> str:
    """As a label; numbers that a parquet made floats are shown as they were."""
    return f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"


def plot(rows: Sequence[Mapping[str, Any]], without_score: Collection[int] = ()) -> Figure:
    """The figure that `draw` fills."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    draw(figure.add_subplot(), rows, without_score)
    return figure


def draw(axis: Axes, rows: Sequence[Mapping[str, Any]], without_score: Collection[int] = ()) -> None:
    """Accuracy against the training step with 95 % intervals, by `lines`. Steps without a score
    (`without_score`, and rows without an accuracy) are crosses on the frame. All of 0 to 100 % is shown, or a
    young run's intervals would look like scores; the legend stands above, where no bar is."""
    from matplotlib.ticker import MaxNLocator

    for i, (name, line) in enumerate(lines(rows).items()):
        _draw_line(axis, line, name, COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)])
    unscored = {_step(row) for row in rows if row["accuracy"] is None and row["checkpoint_step"] is not None}
    scored = {_step(row) for row in rows if row["accuracy"] is not None}
    lost = sorted({*without_score, *unscored} - scored)  # perplexities stand beside scores
    if lost:
        frame = axis.get_xaxis_transform()
        axis.plot(lost, [0.0] * len(lost), "kx", label="no score", zorder=3, transform=frame, clip_on=False)
    axis.set(xlabel="training step", ylabel="accuracy, %", ylim=LIMITS)
    axis.margins(x=0.08)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(
            fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2
        )


def _draw_line(axis: Axes, rows: Sequence[Mapping[str, Any]], name: str, colour: str, marker: str) -> None:
    """One benchmark, by step."""
    x = [_step(row) for row in rows]
    y = [100 * row["accuracy"] for row in rows]
    sides = (("accuracy_low", -1), ("accuracy_high", 1))
    spread = [
        [0.0 if r[side] is None else max(0.0, sign * 100 * (r[side] - r["accuracy"])) for r in rows]
        for side, sign in sides
    ]
    axis.errorbar(x, y, yerr=spread, capsize=3, color=colour, marker=marker, markersize=5, label=name)
