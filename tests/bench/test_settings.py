"""The benchmark's configuration: each mistake named, and the server started with what was asked for."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from llada_exp.bench.settings import validate_bench
from llada_exp.bench.task import BenchTask
from llada_exp.runs.servers import server_overrides
from llada_exp.settings import conf_dir, override_value


def composed(*overrides, app="bench"):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return OmegaConf.to_container(compose(app, overrides=list(overrides)), resolve=True)


def settings(*overrides):
    return validate_bench(composed("name=test", *overrides))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["concurrency=0"], "concurrency is 0; expected an integer from 1"),
        (["rate=0"], "rate is 0; expected requests per second, above 0"),
        (["rate=fast"], "rate is 'fast'"),
        (["arrival=never"], "arrival is 'never'; expected one of poisson, constant, burst"),
        (["stream=1"], "stream is 1; expected true or false"),
        (["batch_size=0"], "batch_size is 0; expected an integer from 1 to 4096"),
        (["url=node7:8000"], "url is 'node7:8000'; expected http://HOST:PORT"),
        (["url=http://me:secret@node7"], "the key belongs in LLADA_API_KEY"),
        (["name=a/b"], "name is 'a/b'; expected the name of a folder"),
        (["api_key_file=key"], "api_key_file is set; a benchmark and its server take the key from"),
        (["decoding.threshold=2"], "decoding.threshold is 2; expected a number from 0 to 1"),
        (["decoding.rule=best"], "decoding.rule is 'best'; expected one of fixed"),
        (["decoding.cfg_scale=1", "batch_size=1"], "batch_size is 1; decoding.cfg_scale above 0 needs"),
        (
            ["decoding.rule=threshold", "decoding.steps=8"],
            "decoding.steps is 8 and not used: rule is 'threshold'",
        ),
        (["+request.cache=dual"], "request is now decoding"),
        (["workload=jsonl"], "workload.path is None; expected a file of JSON lines"),
        (["workload.problems=hard"], "workload.problems is 'hard'; expected one of short, long"),
        (["workload=fixed", "workload.vocab=[5]"], r"workload.vocab is [5]; expected [low, high]"),
        (["tracking.mode=on"], "tracking.mode is 'on'; expected one of offline"),
        (["+wibble=1"], "unknown key wibble"),
        (["+workload.problem=1"], "unknown key workload.problem; did you mean workload.problems"),
        (["goodput.e2el_ms=-1"], "goodput.e2el_ms is -1"),
    ],
)
def test_a_mistake_names_the_key_and_what_is_allowed(overrides, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        settings(*overrides)
    assert words in str(caught.value)


def test_the_message_about_a_url_with_a_password_does_not_hold_it():
    with pytest.raises(ValueError, match="LLADA_API_KEY") as caught:
        settings("url=http://me:secret@node7")
    assert "secret" not in str(caught.value)


def test_the_server_gets_exactly_what_was_composed():
    ours = ["batch_size=5", "mode=streaming", "decoding=fast", "engine.max_length=512", "model=hf",
            "model.path='/a b/it''s,here=[1]'".replace("''", "\\'"), "seed=7"]  # fmt: skip
    own = settings(*ours)
    theirs = composed(*server_overrides(own.server_tree), app="serve")
    for key, value in own.server_tree.items():
        assert theirs[key] == value, key


def test_points_that_differ_in_load_and_request_share_a_server():
    base = BenchTask().server_of(settings())
    for same in (
        ["concurrency=2"],
        ["rate=4"],
        ["decoding.cache=dual"],
        ["workload=fixed"],
        ["repeats=3"],
        ["port=1"],
    ):
        assert BenchTask().server_of(settings(*same)) == base
    for other in (
        ["batch_size=2"],
        ["max_wait_time=0"],
        ["decoding=exact"],
        ["mode=streaming"],
        ["url=http://a"],
    ):
        assert BenchTask().server_of(settings(*other)) != base


def test_the_hash_changes_with_what_is_measured_alone():
    base = settings().config_hash
    for same in (["tracking=disabled"], ["resume=true"], ["exclusive=false"]):
        assert settings(*same).config_hash == base
    for other in (["repeats=2"], ["num_requests=3"], ["batch_size=2"], ["decoding.cache=dual"]):
        assert settings(*other).config_hash != base


@given(
    st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc")), max_size=20).filter(
        lambda t: "$" not in t
    )
)
def test_any_text_survives_the_command_line(text):
    # Paths with quotes and backslashes reached the server as others.
    assert OverridesParser.create().parse_override(f"key={override_value(text)}").value() == text


@pytest.mark.parametrize("text", ["\\", "a\\'b", "a\\\\", "'", "\\\\'", "a=b,c"])
def test_quotes_and_backslashes_survive_the_command_line(text):
    assert OverridesParser.create().parse_override(f"key={override_value(text)}").value() == text
