"""An evaluation that ended with failed answers asks exactly those again; a score of nothing is none."""

import json
from pathlib import Path

import pytest

from llada_exp.evals import answers
from llada_exp.evals.result import HarnessResult, RequestCounts
from llada_exp.runs import status
from tests.evals.endpoint import completion, endpoint, failure
from tests.evals.here import evals_here
from tests.evals.samples import answer

NUM = 6
GENERATE = Path(__file__).parents[2] / "conf" / "lm_eval" / "tiny_generate.yaml"


@pytest.fixture(params=["builtin", "lm_eval"])
def benchmark(request, tmp_path, monkeypatch):
    """NUM problems, in a file that the harness of the name reads."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    lines = [{"problem": f"q{i}", "question": f"q{i}", "expected_answer": "1", "number": "1"}
             for i in range(NUM)]  # fmt: skip
    path = tmp_path / "six.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if request.param == "builtin":
        return str(path)
    task = tmp_path / "six.yaml"
    task.write_text(GENERATE.read_text().replace("tiny_choice.jsonl", str(path)))
    return str(task)


def right(body):
    return completion("\\boxed{1} #### 1")


def rows(folder):
    return [json.loads(line) for line in (folder / "row.jsonl").read_text().splitlines()]


def test_what_failed_is_asked_again_and_nothing_else(benchmark, tmp_path, monkeypatch, capsys):
    """Prevents a resume that prints the same row again, whatever failed."""

    def command(url):
        return (f"benchmark='{benchmark}'", f"url={url}", "max_retries=0", "expname=a", "tracking=disabled")

    folder = tmp_path / "outputs" / "evals" / "a"
    with endpoint(lambda b: failure(500) if "q3" in b["messages"][0]["content"] else right(b)) as own:
        assert evals_here(monkeypatch, tmp_path, *command(own.url)) == 0
    (row,) = rows(folder)
    assert (row["failed"], row["num_problems"]) == (1, NUM)
    with endpoint(right) as own:
        assert evals_here(monkeypatch, tmp_path, *command(own.url), "resume=true") == 0
        assert [q for q, _ in own.questions()] == ["q3"]
        assert "1 answers that failed are asked again" in capsys.readouterr().err
        (row,) = rows(folder)
        assert (row["failed"], row["accuracy"], row["resumed"]) == (0, 1.0, NUM - 1)
        found = answers.read(folder / answers.FILE)
        assert len(found) == len((folder / answers.FILE).read_text().splitlines()) == NUM
        assert evals_here(monkeypatch, tmp_path, *command(own.url), "resume=true") == 0
        assert len(own.bodies) == 1, "what is whole is shown"
    assert rows(folder) == [row]


def test_a_point_of_a_sweep_too(benchmark, tmp_path, monkeypatch):
    def command(url):
        return ("-m", f"benchmark='{benchmark}'", f"url={url}", "seed=1,2", "max_retries=0", "expname=s",
                "tracking=disabled")  # fmt: skip

    def reply(body):
        return failure(500) if "q3" in body["messages"][0]["content"] and body["seed"] == 2 else right(body)

    with endpoint(reply) as own:
        assert evals_here(monkeypatch, tmp_path, *command(own.url)) == 0
    with endpoint(right) as own:
        assert evals_here(monkeypatch, tmp_path, *command(own.url), "resume=true") == 0
        assert own.questions() == [("q3", 2)]
    summary = (tmp_path / "outputs" / "evals" / "s" / "summary.jsonl").read_text().splitlines()
    assert [json.loads(line)["failed"] for line in summary] == [0, 0]


def test_a_score_of_nothing_is_an_error(benchmark, tmp_path, monkeypatch, capsys):
    """Prevents an accuracy of 0.0 of a model that was never asked."""
    command = (f"benchmark='{benchmark}'", "max_retries=0", "expname=a", "tracking=disabled")
    folder = tmp_path / "outputs" / "evals" / "a"
    with endpoint(lambda body: failure(500, "broken")) as own:
        assert evals_here(monkeypatch, tmp_path, *command, f"url={own.url}") == 1
    assert f"none of {NUM} questions of" in capsys.readouterr().err
    assert status.read(folder)["status"] == "failed"
    assert not (folder / "row.jsonl").exists()
    with endpoint(right) as own:
        assert evals_here(monkeypatch, tmp_path, *command, f"url={own.url}", "resume=true") == 0
        assert len(own.bodies) == NUM
    assert [row["accuracy"] for row in rows(folder)] == [1.0]


@pytest.mark.parametrize(
    ("found", "counts", "words"),
    [
        ([], {}, "there was nothing to ask"),
        ([answer(), answer(benchmark="c", verdict="failed", error="no")], {}, "none of 1 .* c .*no"),
        ([answer()], {"bleu": RequestCounts(3, 3)}, "none of 3 requests of bleu"),
        ([], {"perplexity": RequestCounts()}, "none of 0 requests of perplexity"),
    ],
)  # fmt: skip
def test_of_several_benchmarks_each_counts(found, counts, words):
    with pytest.raises(RuntimeError, match=words):
        HarnessResult(found, "m", None, False, metrics={"x": {}}, counts=counts).check_answered()


def test_metrics_alone_are_a_result():
    result = HarnessResult([], "m", None, False, counts={"a": RequestCounts(3, 1, 2), "b": RequestCounts(4)},
                           groups={"g": ["a", "b"]})  # fmt: skip
    result.check_answered()
    assert result.counts_of("g") == RequestCounts(7, 1, 2)
