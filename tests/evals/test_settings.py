"""conf/eval.yaml into settings: every predecessor's option has its key, and mistakes are named."""

import re
import shlex

import pytest
from hydra import compose, initialize_config_dir

from llada_exp.decoding_keys import OF_EVALUATIONS
from llada_exp.evals.settings import eval_keys
from llada_exp.settings import conf_dir, serve_keys
from llada_exp.types import DECODING_FIELDS
from tests.evals.samples import composed, settings


def test_the_defaults_evaluate_the_embedded_model_by_itself():
    own = settings()
    assert (own.harness, own.urls, own.server.model.source) == ("builtin", (), "tiny")
    assert [(b.name, b.num_samples) for b in own.benchmarks] == [("tiny_short", 1)]
    assert own.request == {}, "null is not sent: the server's own default holds"


@pytest.mark.parametrize(
    ("benchmark", "harness"),
    [
        ("tiny_long", "builtin"),
        ("a.jsonl:4", "builtin"),
        ("gsm8k:4", "nemo_skills"),
        ("task.yaml", "lm_eval"),
    ],
)
def test_the_harness_follows_the_benchmark_unless_named(benchmark, harness):
    assert settings(f"benchmark='{benchmark}'").harness == harness
    assert settings(f"benchmark='{benchmark}'", "harness=lm_eval").harness == "lm_eval"


def test_several_benchmarks_are_of_one_harness():
    own = settings("benchmark=[gsm8k:4,math]")
    assert [(b.name, b.num_samples) for b in own.benchmarks] == [("gsm8k", 4), ("math", 1)]
    assert settings("benchmark='gsm8k:4,math'").benchmarks == own.benchmarks
    with pytest.raises(ValueError, match=r"of several harnesses \(builtin, nemo_skills\)"):
        settings("benchmark=[gsm8k,tiny_short]")


def test_the_quick_test_is_one_sample_of_ten_problems_unless_said():
    own = settings("benchmark=gsm8k:4", "quick_test=true")
    assert (own.num_samples, own.max_samples) == (1, 10)
    assert settings("quick_test=true", "max_samples=3").max_samples == 3


def test_every_decoding_field_of_a_request_is_a_key():
    """Prevents a new field that an evaluation cannot ask for."""
    assert set(OF_EVALUATIONS) == set(DECODING_FIELDS) - {
        "seed", "stop", "stop_token_ids", "ban_ids", "logprobs", "trace",
    }  # fmt: skip
    own = settings("decoding.max_tokens=512", "decoding.steps=256", "decoding.block_length=8",
                   "decoding.cfg_scale=0.5", "decoding.remasking=random", "decoding.cache=dual",
                   "decoding.temperature=0.7", "decoding.top_p=0.95",
                   "extra_body={new: 1}")  # fmt: skip
    assert own.request == {
        "max_tokens": 512, "steps": 256, "block_length": 8, "cfg_scale": 0.5, "remasking": "random",
        "cache": "dual", "temperature": 0.7, "top_p": 0.95, "new": 1,
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"decoding\.threshold and factor belong to different rules"):
        settings("decoding.threshold=0.9", "decoding.factor=1.0")


def test_several_samples_are_never_the_same_one_several_times():
    assert settings("benchmark=tiny_short:4").request == {"temperature": 0.7, "top_p": 0.95}
    assert settings("benchmark=tiny_short:4", "decoding.temperature=1").request["temperature"] == 1
    with pytest.raises(ValueError, match="temperature is 0; with 4 samples a problem all would be the same"):
        settings("benchmark=tiny_short:4", "decoding.temperature=0")


def test_the_environment_names_server_and_output_and_the_command_line_wins(monkeypatch):
    monkeypatch.setenv("LLADA_SERVER_URL", "http://a:1/v1,http://b:2")
    assert settings().urls == ("http://a:1", "http://b:2")
    assert settings().server is None
    assert settings("url=http://c:3").urls == ("http://c:3",)
    monkeypatch.setenv("EVAL_OUTPUT_DIR", "/somewhere")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        assert compose("eval").output_dir == "/somewhere"
        assert compose("eval", overrides=["output_dir=here"]).output_dir == "here"


def test_resuming_asks_whether_an_answer_would_change_and_nothing_else():
    base = settings().config_hash
    same = ["expname=b", "concurrency=3", "timeout=5", "max_retries=0", "tracking=disabled", "resume=true"]
    for one in same:
        assert settings(one).config_hash == base, one
    other = ["benchmark=tiny_long", "decoding.temperature=0.5", "seed=1", "max_samples=3",
             "builtin.prompt=boxed", "decoding=exact", "builtin.scorer=exact",
             "extra_body={a: 1}"]  # fmt: skip
    for one in other:
        assert settings(one).config_hash != base, one
    remote = settings("url=http://a:1")
    assert settings("url=http://a:1", "decoding.cache=dual").config_hash != remote.config_hash
    assert settings("url=http://b:1", "decoding=exact").config_hash == remote.config_hash


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("harness=nemo", "harness is 'nemo'; expected one of builtin, lm_eval, nemo_skills"),
        ("benchmark=tiny_short:0", "expected NAME or NAME:K"),
        ("benchmark=''", "benchmark is ''; expected a name"),
        ("url=node7", "url is 'node7'; expected http://HOST:PORT"),
        ("url=[http://a:1,http://a:1/v1]", "url names http://a:1 twice"),
        ("max_samples=0", "max_samples is 0; expected an integer from 1"),
        ("decoding.max_tokens=0", "decoding.max_tokens is 0"),
        ("decoding.cache=both", "decoding.cache is 'both'; expected"),
        ("decoding.threshold=2", "decoding.threshold is 2"),
        ("builtin.prompt=none", "builtin.prompt is 'none'"),
        ("+prompt=boxed", "prompt is now builtin.prompt"),
        ("+tokens_to_generate=9", "tokens_to_generate is now decoding.max_tokens"),
        ("+rule=fixed", "rule is now decoding.rule"),
        ("builtin.scorer=none", "builtin.scorer is 'none'; expected one of math_verify, exact"),
        ("extra_body=3", "extra_body is 3"),
        ("checkpoint_steps=[a]", "checkpoint_steps is "),
        ("nemo_skills.args=x", "nemo_skills.args is 'x'"),
        ("lm_eval.num_mc=0", "lm_eval.num_mc is 0"),
        ("expname=a/b", "expname is 'a/b'"),
        ("api_key_file=x", "api_key_file is set"),
        ("+benchmrk=x", "unknown key benchmrk; did you mean benchmark"),
        ("tracking.mode=on", "tracking.mode is 'on'"),
    ],
)
def test_a_mistake_is_named(override, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        settings(override)
    assert words in str(error.value)


def test_the_help_text_names_every_key():
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        text = compose("eval", return_hydra_config=True).hydra.help.template
    for key in set(eval_keys()) - set(serve_keys()) - {"seed"}:
        group = key.split(".")[0]
        assert (f"{group}.*" if group == "tracking" and "." in key else key) in text, key


def test_the_help_texts_examples_compose():
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        text = compose("eval", return_hydra_config=True).hydra.help.template
    text = text.partition("Examples\n")[2].partition("\n\n")[0]
    examples = re.findall(r"^ *python -m llada_exp\.evals ((?:-m )?\w+=.*?)(?:  .*)?$", text, re.M)
    assert len(examples) >= 6
    for example in examples:
        words = [word for word in shlex.split(example) if "=" in word]
        composed(*(word.split(",")[0] if "-m " in example else word for word in words))
