"""Rows: one a benchmark and group, with the settings that the server says it used."""

from pathlib import Path

from llada_exp.evals.report import table
from llada_exp.evals.result import HarnessResult
from llada_exp.evals.rows import benchmark_rows
from llada_exp.evals.schema import ROW
from tests.evals.samples import answer, settings


def rows(found, *overrides):
    told, _ = benchmark_rows(settings("url=http://a:1", *overrides), Path("f"), found, {"model": "m"})
    return {row["benchmark"]: row for row in told}


def test_settings_are_the_servers_word_not_what_was_asked():
    """Prevents a table that says `threshold` for answers that were decoded otherwise."""
    used = {"rule": "credit", "threshold": 0.99, "cache": "dual", "max_tokens": 64, "steps": 3}
    own = [answer(0, decoding=used), answer(1, decoding={**used, "max_tokens": 128})]
    row = rows(HarnessResult(own, "m", None, False), "decoding.cache=none")["b"]
    assert (row["rule"], row["threshold"], row["cache"], row["steps"]) == ("credit", 0.99, "dual", None)
    assert row["max_tokens"] is None, "it differs between problems"
    assert list(row) == [c.name for c in ROW]
    silent = rows(
        HarnessResult([answer(0)], "m", None, False), "decoding.cache=none", "decoding.max_tokens=9"
    )["b"]
    assert (silent["cache"], silent["rule"], silent["max_tokens"]) == ("none", None, 9)


def test_a_group_of_tasks_is_a_row_in_which_every_problem_weighs_the_same():
    own = [answer(i, benchmark="algebra") for i in range(3)]
    own.append(answer(0, verdict="wrong", benchmark="geometry"))
    groups = {"math": ["algebra", "shapes"], "shapes": ["geometry"]}
    told = rows(HarnessResult(own, "m", None, False, groups=groups))
    assert [told[n]["accuracy"] for n in ("algebra", "geometry", "math", "shapes")] == [1, 0, 0.75, 0]
    assert told["math"]["num_problems"] == 4


def test_a_task_without_right_and_wrong_keeps_its_row_beside_others():
    """Prevents arc_easy with wikitext from being one row."""
    metrics = {"b": {"acc": {"value": 1.0}}, "wikitext": {"word_perplexity": {"value": 9}}}
    result = HarnessResult([answer(0)], "m", None, True, metrics=metrics)
    told, scores = benchmark_rows(settings("url=http://a:1"), Path("f"), result, {"model": "m"})
    assert [(row["benchmark"], row["accuracy"], row["model"]) for row in told] == [
        ("b", 1.0, "m"), ("wikitext", None, "m"),
    ]  # fmt: skip
    assert [score.benchmark for score in scores] == ["b"], "the mean of nothing is no score"
    assert "wikitext" in table(told).text()


def test_a_task_without_right_and_wrong_is_a_row_without_scores():
    (row,) = rows(
        HarnessResult([], "m", None, True, metrics={"wikitext": {"word_perplexity": {"value": 9}}})
    ).values()
    assert (row["benchmark"], row["accuracy"]) == ("wikitext", None)
