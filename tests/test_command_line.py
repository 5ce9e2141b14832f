"""What people type, as Hydra reads it: names and paths are texts, flags stand anywhere."""

import shlex

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from llada_exp.cli import conf_dir, explain
from llada_exp.command_line import NAMES, NAMES_OR_NULL, ambiguous, hydra_words, unreadable
from llada_exp.settings import conf_dir, serve_keys

KEYS = serve_keys()
ODD = ["1E234", "1e3", "1e-4", "0x10", "1_000", "yes", "010", "2026-01-01", "true", "False", "inf", "nan"]
ODD += ["~", "1.50"]


def typed(*words, names=()):
    return hydra_words(words, KEYS, names)


def composed(config, *words):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(config, overrides=typed(*words))


@pytest.mark.parametrize("text", [*ODD, "null", "lr=3", "a(1)"])
def test_a_name_and_a_path_are_the_text_that_was_typed(text):
    cfg = composed(
        "bench", f"name={text}", f"model.name={text}", f"model.path=/runs/{text}", "url=http://h:1"
    )
    assert (cfg.name, cfg.model.name, cfg.model.path) == (text, text, f"/runs/{text}")
    cfg = composed("eval", f"expname={text}", f"output_dir={text}")
    assert (cfg.expname, cfg.output_dir) == (text, text)


@pytest.mark.parametrize("text", ODD)
def test_a_path_may_look_like_a_number(text):
    assert composed("serve", f"model.path={text}", f"server_info={text}").model.path == text


def test_null_unsets_a_path_and_names_a_folder():
    cfg = composed("bench", "name=null", "url=null", "model.path=null")
    assert (cfg.name, cfg.url, cfg.model.path) == ("null", None, None)


def test_what_names_something_else_is_left_as_it_is():
    words = ["batch_size=1e3", "name='1e3'", "name=s${seed}", "name=plain", "url=[http://a,http://b]",
             "model=hf", "name=choice(a,b)", "decoding.stop=[a]", "~url"]  # fmt: skip
    assert typed(*words) == words
    assert typed("resume=true") == ["resume=true"]
    assert typed("resume=1e3", names=("resume",)) == ["resume='1e3'"]


def test_every_name_of_a_sweep_is_a_text():
    flag, word, other = typed("name=1e3,plain,1_0", "-m", "concurrency=1,2")
    assert (flag, other) == ("-m", "concurrency=1,2")
    values = OverridesParser.create().parse_override(word).sweep_string_iterator()
    assert list(values) == ["'1e3'", "plain", "'1_0'"]


def test_flags_stand_anywhere_with_their_values():
    assert typed("name=a", "--cfg", "job", "seed=1", "-m") == ["--cfg", "job", "-m", "name=a", "seed=1"]
    assert typed("--info", "seed=1", "--resolve") == ["--info", "--resolve", "seed=1"]
    assert typed("seed=1", "--config-dir=x") == ["--config-dir=x", "seed=1"]


@pytest.mark.parametrize(
    ("words", "help_"),
    [
        ("--port 8001", "write port=8001"),
        ("--port=8001", "write port=8001"),
        ("batch_size=2 --max-wait-time 0.5", "write max_wait_time=0.5"),
        ("--batchsize 4", "write batch_size=4"),
        ("--port", "write port=VALUE"),
        ("--model.path /a=b", "write model.path=/a=b"),
        ("--xyzzy", "write key=value, and see --help"),
    ],
)
def test_a_flag_of_other_programs_is_told_as_the_key_that_it_means(words, help_):
    with pytest.raises(ValueError, match=r"^there is no flag --") as error:
        typed(*words.split())
    assert help_ in str(error.value)


@pytest.mark.parametrize("value", ["a=b", "f(x", "{x", "a:b=c d", "it's=1", 'say "x"=1', "[1"])
def test_the_word_that_helps_can_be_pasted_into_a_shell(value):
    word = f"builtin.prompt={value}"
    line = unreadable(word)
    assert line.startswith(f"cannot read {word!r}; in quotes it is a text: ")
    (pasted,) = shlex.split(line.partition("a text: ")[2])
    override = OverridesParser.create().parse_override(pasted)
    assert override.key_or_group == "builtin.prompt"
    assert override.value() == value


def test_a_word_without_a_value_and_one_with_a_comma():
    assert unreadable("nonsense") == "cannot read 'nonsense'; write key=value"
    line = ambiguous("model.path=a,b")
    assert "-m sweeps" in line
    assert "'model.path=\"a,b\"'" in line
    assert "'model.path=[a,b]'" in line


def test_the_keys_that_hold_texts_are_there():
    assert {key for key in NAMES | NAMES_OR_NULL if key.startswith("model.")} <= set(KEYS)


def test_a_path_with_commas_is_one_path_outside_of_a_sweep():
    assert typed("model.path=/runs/lr=3,bs=2") == ['model.path="/runs/lr=3,bs=2"']
    assert typed("-m", "model.path=/a,/b") == ["-m", "model.path=/a,/b"]
    assert typed("benchmark=a,b") == ["benchmark=a,b"], "which is said to be two"


def test_a_key_of_another_choice_of_its_group_is_told_so():
    """Prevents `workload.path cannot be taken away; write workload.path=VALUE` to who wrote just that."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"), pytest.raises(HydraException) as error:
        compose("bench", ["workload.path=x"])
    line = explain(error.value, {"workload.path"}, {})
    assert line == "workload.path: the chosen workload has no path; another workload=NAME has"
