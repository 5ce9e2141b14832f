"""Scores against steps: what the figure draws."""

import math

from llada_exp.evals.curve import lines, plot

KNOWN = {"sweep": "s", "benchmark": "gsm8k", "num_problems": 200, "num_samples": 1}
SHARES = {"cut_off": 0.125, "no_answer": 0.02, "failed": 3, "mean_output_tokens": 80.25}
COSTS = {"mean_nfe": 40.0, "tpf": 2.0}


def row(step, accuracy, **more):
    bounds = (None, None) if accuracy is None else (max(0.0, accuracy - 0.05), accuracy + 0.1)
    own = {
        "checkpoint_step": step,
        "accuracy": accuracy,
        "accuracy_low": bounds[0],
        "accuracy_high": bounds[1],
    }
    return {**KNOWN, **SHARES, **COSTS, **own, **more}


def unknown(step, **more):
    return row(step, None, **dict.fromkeys((*SHARES, *COSTS, "num_problems")), **more)


def test_a_line_a_benchmark_with_its_own_intervals():
    """Prevents points of two benchmarks, or of two runs, from being joined."""
    rows = [row(30, 0.5), row(10, 0.2), row(10, 0.9, benchmark="math"), unknown(20), row(None, 0.3)]
    found = lines(rows)
    assert {name: [r["checkpoint_step"] for r in own] for name, own in found.items()} == {
        "gsm8k": [10, 30],
        "math": [10],
    }


def test_runs_and_settings_of_one_step_are_lines_of_their_own():
    """Prevents a zigzag through two thresholds, and a label of what never differs."""
    rows = [row(n, a, threshold=t, cache="dual") for n in (10, 20) for t, a in ((0.9, 0.2), (1.0, 0.3))]
    assert list(lines(rows)) == ["gsm8k, threshold=0.9", "gsm8k, threshold=1"]
    rows = [row(10, 0.2), row(10, 0.3, sweep="t"), row(20, 0.3, sweep="t", max_tokens=64)]
    assert {name: len(own) for name, own in lines(rows).items()} == {"gsm8k, sweep=s": 1, "gsm8k, sweep=t": 2}


def test_the_figure_draws_accuracy_intervals_and_lost_steps():
    figure = plot([row(30, 0.5), row(10, 0.02), unknown(20)], [40])
    (axis,) = figure.axes
    accuracy, lost = axis.lines[0], axis.lines[-1]
    assert accuracy.get_xydata().tolist() == [[10, 2], [30, 50]]
    assert lost.get_xydata().tolist() == [[20, 0], [40, 0]]
    (bars,) = [c for c in axis.containers if c.has_yerr]
    (segments,) = bars[2]
    ends = [[y for _, y in segment] for segment in segments.get_segments()]
    assert all(map(math.isclose, ends[0] + ends[1], [0, 12, 45, 60]))
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["no score", "gsm8k"]
    low, high = axis.get_ylim()
    assert low < 0 < 100 < high, "markers at 0 and 100 % stand inside"


def test_a_figure_without_any_score_is_still_drawn(tmp_path):
    """Prevents a sweep that ends in an error of its summary because all its checkpoints were damaged."""
    plot([], [10]).savefig(tmp_path / "lost.png")
    plot([]).savefig(tmp_path / "empty.png")


def test_a_perplexity_beside_a_score_is_no_step_without_one():
    """Prevents crosses at the steps of every sweep over arc_easy and wikitext."""
    axis = plot([row(100, 0.5), {**unknown(100), "benchmark": "wikitext"}]).axes[0]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["gsm8k"]


def test_a_young_runs_figure_hides_nothing():
    """Its accuracies are near 0, and its intervals wide."""
    rows = [row(step, 0.0) | {"accuracy_low": 0.0, "accuracy_high": 0.19} for step in (1, 2, 3)]
    figure = plot(rows)
    figure.canvas.draw()
    (axis,) = figure.axes
    inside = axis.get_window_extent()
    for x, y in axis.transData.transform(axis.lines[0].get_xydata()):
        assert inside.x0 + 3 < x < inside.x1 - 3
        assert inside.y0 + 3 < y < inside.y1 - 3
    assert not axis.get_legend().get_window_extent().overlaps(inside)
    assert axis.get_ylim()[1] > 100, "19 % is not the top of the picture"
