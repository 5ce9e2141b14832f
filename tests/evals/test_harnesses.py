"""A harness is its folder and its line in the registry: its keys are composed, checked and explained."""

import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir

from llada_exp.evals import answers, harnesses
from llada_exp.evals.settings import eval_keys
from llada_exp.settings import conf_dir
from tests import programs
from tests.bench.conftest import environment
from tests.evals.endpoint import completion, endpoint
from tests.evals.samples import settings

LINE = "tests.evals.coin_harness"


@pytest.fixture
def coin(monkeypatch):
    monkeypatch.setattr(harnesses, "MODULES", [LINE, *harnesses.MODULES])


def evals(*arguments, cwd):
    return programs.run("tests.evals.coin_evals", *arguments, cwd=cwd, env=environment(cwd), timeout=120)


def test_a_new_harness_answers_its_benchmark_with_keys_of_its_own(tmp_path):
    done = evals("benchmark=coins", "coin.num_coins=3", "expname=c", "tracking=disabled", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = pq.read_table(tmp_path / "outputs" / "evals" / "c" / "row.parquet").to_pylist()
    assert (row["harness"], row["benchmark"], row["num_problems"]) == ("coin", "coins", 3)
    assert (row["accuracy"], row["model"]) == (1.0, "coin")
    kept = answers.read(tmp_path / "outputs" / "evals" / "c" / answers.FILE)
    assert [a.response for a in kept] == ["heads"] * 3, "or W&B, which is on by default, has none to show"


def test_a_sweep_over_a_key_of_a_new_harness(tmp_path):
    done = evals("-m", "benchmark=coins", "coin.shown=heads,tails", "expname=c", "tracking=disabled",
                 cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(tmp_path / "outputs" / "evals" / "c" / "summary.parquet").to_pylist()
    assert [row["accuracy"] for row in rows] == [1.0, 0.0]


def test_its_keys_are_shown_and_its_mistakes_named_in_a_line(tmp_path):
    shown = evals("--cfg", "job", cwd=tmp_path)
    assert "coin:\n  num_coins: 2\n  shown: heads\n" in shown.stdout, shown.stderr
    for arguments, words in (
        (["coin.num_coins=7"], "coin.num_coins is 7; expected an integer from 1 to 6"),
        (["coin.num_coin=3"], "unknown key coin.num_coin; did you mean coin.num_coins"),
        (["benchmark=coins", "max_samples=13"], "coins are superstitious"),
    ):
        done = evals(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_its_keys_are_known_and_in_the_help_text(coin):
    assert {"coin", "coin.num_coins", "coin.shown"} <= set(eval_keys())
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        text = compose("eval", return_hydra_config=True).hydra.help.template
    (line,) = [line for line in text.splitlines() if line.startswith("  coin.num_coins ")]
    assert line.endswith("coins that are thrown  (2)")
    assert "coin: coins\n" in text


def test_problems_are_read_once(tmp_path):
    """Checking, planning and asking read every problem anew."""
    file = tmp_path / "own.jsonl"
    file.write_text('{"problem": "q", "expected_answer": 1}\n')
    with endpoint(lambda body: completion("\\boxed{1}")) as server:
        told = settings(f"benchmark='{file}'", f"url={server.url}")
        prepared = harnesses.harnesses()["builtin"].prepare(told)
        file.unlink()
        assert prepared.plan(tmp_path) == ["1 questions"]
        assert [a.correct for a in prepared.run(tmp_path).answers] == [True]


def test_a_harness_that_comes_changes_no_evaluation_of_another(monkeypatch):
    """Or every evaluation that was begun before could not be gone on with."""
    before = settings().config_hash
    monkeypatch.setattr(harnesses, "MODULES", [LINE, *harnesses.MODULES])
    assert settings().config_hash == before
    assert settings("coin.num_coins=3").config_hash == before
    assert settings("builtin.prompt=boxed").config_hash != before
    assert (
        settings("benchmark=coins").config_hash != settings("benchmark=coins", "coin.num_coins=3").config_hash
    )


def test_only_the_last_takes_any_name():
    """Prevents a harness that is never recognised, because one before it takes its benchmarks."""
    takes = [harness.recognises("no_such_benchmark") for harness in harnesses.harnesses().values()]
    assert takes == [False] * (len(takes) - 1) + [True], "the line of a new harness goes before the last"
