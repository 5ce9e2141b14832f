"""A sample over HTTP against the engine: what is equal, and that a difference is told."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from llada_exp import Engine, load_model
from llada_exp.gate import over_http
from llada_exp.gate.outcome import HttpSample
from llada_exp.gate.strata import problems
from llada_exp.gate.summary import over_http as line
from llada_exp.gate.verdict import FAIL, PASS, Limits, http_verdict, verdicts
from llada_exp.settings import conf_dir


def test_a_sample_is_of_all_kinds():
    """Prevents a sample over HTTP that is all of the first kind."""
    kinds = ["readme", "products", "long"]
    sample = over_http.sample(kinds, 7)
    assert len({problem.question for problem in sample}) == 7
    assert sample[:3] == [problems(kind, 1)[0] for kind in kinds]


def test_a_server_started_as_a_user_would_answers_as_the_engine_does(tmp_path):
    """Prevents a gate that passes a preset which the server decodes otherwise, or does not have."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tree = OmegaConf.to_container(compose("gate", ["kinds=[readme,follow_ups]", "device=cpu"]))
    engine = Engine(load_model(), batch_size=4)
    rows = over_http.compare_http(engine, tree, [tree["preset"]["max_tokens"], 64], 4, tmp_path)
    assert rows == [HttpSample(256, 4, 4), HttpSample(64, 4, 4)]
    assert (tmp_path / "server" / "server.log").exists()


def test_a_difference_is_told_and_fails():
    questions = ["What is 1 + 2?", "What is 3 + 4?"]
    row = over_http._row(256, questions, [("#### 3", 3), ("#### 7", 3)], [("#### 3", 3), ("#### 8", 4)])
    assert (row.n, row.num_equal) == (2, 1)
    verdict = http_verdict(row)
    assert verdict.word == FAIL
    assert (
        "canvas 256: 1 of 2 answers are the engine's; 'What is 3 + 4?': the server's answer is '#### 8'"
        in str(verdict)
    )
    assert [v.word for v in verdicts([], [], Limits(), [row, HttpSample(64, 2, 2)])] == [FAIL, PASS]
    assert line(row) == "over HTTP, canvas 256: 1 of 2 answers are the engine's"


@pytest.mark.parametrize("num", [1, 5])
def test_as_many_as_are_asked_for(num):
    assert len(over_http.sample(["readme", "sums"], num)) == num
