"""harness=lm_eval from the command line, offline; and that it decodes as the server would."""

import json

import pyarrow.parquet as pq
import pytest

from llada_exp.evals import answers
from tests.bench.conftest import ROOT
from tests.evals.test_evaluate import evals

CHOICE, GENERATE = (str(ROOT / "conf" / "lm_eval" / f"tiny_{kind}.yaml") for kind in ("choice", "generate"))


def row(folder):
    (found,) = pq.read_table(folder / "outputs" / "evals" / "l" / "row.parquet").to_pylist()
    return found


def test_a_likelihood_task_on_the_model_itself(tmp_path):
    command = (f"benchmark={CHOICE}", "max_samples=24", "lm_eval.num_mc=16", "expname=l", "tracking=disabled")
    done = evals(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = row(tmp_path)
    assert (told["harness"], told["benchmark"], told["metric"], told["num_problems"]) == (
        "lm_eval", "tiny_choice", "acc", 24,
    )  # fmt: skip
    assert told["accuracy"] > 0.45, "chance is a quarter"
    assert told["harness_version"]
    assert f"tiny_choice: acc {told['accuracy']:.4g} +- " in done.stdout
    scores = json.loads((tmp_path / "outputs" / "evals" / "l" / "scores.json").read_text())
    assert scores["metrics"]["tiny_choice"]["acc"]["value"] == pytest.approx(told["accuracy"])


@pytest.mark.parametrize("remote", [False, True], ids=["in this process", "on an endpoint"])
def test_a_generation_task(remote, tmp_path, request):
    """The preset `decoding` holds in both, and answers are the same."""
    command = [f"benchmark={GENERATE}", "max_samples=12", "expname=l", "tracking=disabled"]
    if remote:
        url = request.getfixturevalue("tiny_server").url
        done = evals(*command, f"url={url}", cwd=tmp_path)
    else:
        done = evals(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = row(tmp_path)
    assert told["accuracy"] >= 0.9
    assert (told["rule"], told["cache"], told["threshold"]) == ("credit", "dual", 0.999)
    found = answers.read(tmp_path / "outputs" / "evals" / "l" / answers.FILE)
    assert all(a.nfe and a.finish_reason == "stop" for a in found)


def test_a_mistake_is_named(tmp_path):
    done = evals(f"benchmark={CHOICE}:4", "tracking=disabled", cwd=tmp_path)
    assert done.returncode != 0
    assert "lm-eval's tasks say it themselves (repeats)" in done.stderr
