"""The one figure that goes to W&B with a point; the notebooks draw the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe and Ito: told apart by colour-blind readers


def throughput_latency(others: Sequence[Mapping[str, Any]], point: Mapping[str, Any]) -> Figure:
    """Output throughput against median end-to-end latency: `point` among the other rows of its sweep."""
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axis = figure.add_subplot()
    for rows, colour, marker, label in (
        (others, BLUE, "o", "other points"),
        ([point], ORANGE, "s", point["point"]),
    ):
        pairs = [(r["median_e2el_ms"], r["output_throughput"]) for r in rows]
        measured = [(x, y) for x, y in pairs if x is not None and y is not None]
        if measured:
            x, y = zip(*measured, strict=True)
            axis.plot(x, y, color=colour, marker=marker, linestyle="none", label=label)
    axis.set(xlabel="median end-to-end latency, ms", ylabel="output throughput, tokens/s")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=7)
    return figure
