"""A sweep of evaluations: which points a line of overrides stands for, and how their folders are called."""

import pytest

from hydra_plugins.llada_sweeper import folder_name
from llada_exp.evals.nemo.command import _PLAIN
from llada_exp.evals.task import EvalTask


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("gsm8k:4", "gsm8k-4"),
        (["gsm8k:4", "hendrycks_math"], "gsm8k-4+hendrycks_math"),
        ("/data/own set.jsonl", "own-set.jsonl"),
        ("conf/lm_eval/tiny_choice.yaml", "tiny_choice.yaml"),
        ("...", "evaluation"),
    ],
)
def test_a_benchmarks_folder_can_be_named_by_any_harness(value, name):
    """NeMo-Skills tears paths apart at spaces, commas and `=`."""
    assert folder_name(value) == name
    assert _PLAIN.fullmatch(name)


def test_a_points_folder_too():
    name = EvalTask().folder_name(3, ["cache=none", "benchmark=[a,b]", "model.path=/x y"])
    assert name.startswith("003_cache-none")
    assert _PLAIN.fullmatch(name), name
