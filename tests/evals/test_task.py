"""A sweep of evaluations: which points a line of overrides stands for, and how their folders are called."""

import json

import pytest

from hydra_plugins.llada_sweeper import folder_name
from llada_exp.evals import answers
from llada_exp.evals.nemo.command import _PLAIN
from llada_exp.evals.task import TASK
from llada_exp.runs import status
from tests.evals.samples import answer, settings


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
    name = TASK.folder_name(3, ["cache=none", "benchmark=[a,b]", "model.path=/x y"])
    assert name.startswith("003_cache-none")
    assert _PLAIN.fullmatch(name), name


def test_an_evaluation_without_an_answer_leaves_nothing_to_be_careful_of(tmp_path):
    """A mistyped path wrote a folder that blocked the corrected command, even with resume=true."""
    status.failed(tmp_path, "other settings", "no such folder")
    failed = answer(verdict=answers.FAILED, error="refused")
    answers.write(tmp_path / answers.FILE, [failed])
    (tmp_path / "model.json").write_text('{"model": "another"}')
    assert not TASK.has_results(tmp_path)
    TASK.check_folder(tmp_path, settings())
    TASK.clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [status.FILE]

    answers.write(tmp_path / answers.FILE, [failed, answer(problem="1")])
    with pytest.raises(ValueError, match=r"under other settings: expected another expname") as refused:
        TASK.check_folder(tmp_path, settings())
    assert "config.yaml" not in str(refused.value), "there is none"


@pytest.mark.parametrize(
    ("path", "line", "is_result"),
    [
        ("lm_eval/records.jsonl", {"key": "k", "text": "4"}, True),
        ("lm_eval/records.jsonl", {"key": "k", "error": "refused"}, False),
        ("nemo_skills/eval-results/gsm8k/output-rs0.jsonl-async", {"generation": "4"}, True),
        ("nemo_skills/eval-results/gsm8k/output.jsonl", {"generation": "", "detailed_error": "no"}, False),
    ],
)
def test_what_a_harness_keeps_counts_as_well(path, line, is_result, tmp_path):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(json.dumps(line) + "\n")
    assert TASK.has_results(tmp_path) == is_result
