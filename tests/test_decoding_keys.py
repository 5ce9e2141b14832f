"""One command line is one decoding, whichever program reads it."""

import copy
import re

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from llada_exp.bench.settings import bench_keys, validate_bench
from llada_exp.cli import explain
from llada_exp.decoding import resolve
from llada_exp.decoding_keys import MOVED_OF_BENCH, MOVED_OF_SERVER, help_preset, help_requests
from llada_exp.evals.settings import MOVED, eval_keys, validate_eval
from llada_exp.runs.servers import check_experiment, check_remote, server_overrides
from llada_exp.settings import conf_dir, serve_keys, validate
from llada_exp.types import DECLARATIONS, PRESET_FIELDS, REQUEST_FIELDS, DecodingParams

PRESETS = ("exact", "fast")
APPS = {"serve": (), "bench": ("name=a",), "eval": ("expname=a",)}


def composed(app, *words):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return OmegaConf.to_container(compose(app, [*APPS[app], *words]), resolve=True)


def of_serve(tree):
    return validate(tree).decoding


def of_bench(tree):
    """What our server makes of the benchmark's requests."""
    point = validate_bench(tree)
    assert point.server.decoding == point.server.preset, "sent, and not set at the server as well"
    return resolve(point.request, point.server.decoding).params


def of_evals(tree):
    evaluation = validate_eval(tree)
    return resolve(evaluation.request, evaluation.server.decoding).params


DOORS = {"serve": of_serve, "bench": of_bench, "eval": of_evals}


@pytest.fixture(scope="module")
def trees():
    return {(app, preset): composed(app, f"decoding={preset}") for app in APPS for preset in PRESETS}


def value(declared):
    """Values within a field's bounds, and some beyond them."""
    if declared.kind == "choice":
        return st.sampled_from([*declared.choices, "another"])
    if declared.kind == "flag":
        return st.booleans()
    high = 1000 if declared.high is None else min(declared.high, 1000)
    if declared.kind == "integer":
        return st.integers(int(declared.low) - 1, int(high))
    return st.floats(declared.low - 0.01, high)


NAMED = st.dictionaries(st.sampled_from(PRESET_FIELDS), st.just(None), max_size=4).flatmap(
    lambda names: st.fixed_dictionaries({name: value(DECLARATIONS[name]) for name in names})
)


def outcome(door, tree):
    try:
        return DOORS[door](tree)
    except ValueError as error:
        return str(error)


@settings(max_examples=300, deadline=None)
@given(preset=st.sampled_from(PRESETS), named=NAMED)
def test_every_program_makes_the_same_of_the_same_keys(trees, preset, named):
    """Or the same words measured one setting and served another: the same decoding, or the same refusal."""
    found = {}
    for door in DOORS:
        tree = copy.deepcopy(trees[door, preset])
        tree["decoding"].update(named)
        found[door] = outcome(door, tree)
    assert found["bench"] == found["serve"]
    assert found["eval"] == found["serve"]
    named_of_them = {n: v for n, v in named.items() if n != "rule"}
    if isinstance(found["serve"], DecodingParams):
        assert all(
            getattr(found["serve"], n) in (v, DECLARATIONS[n].read(n, v)) for n, v in named_of_them.items()
        )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["decoding=fast", "decoding.threshold=0.9"], ("threshold", 0.9, "dual")),
        (["decoding=fast", "decoding.rule=credit", "decoding.threshold=0.9"], ("credit", 0.9, "dual")),
        (["decoding=exact", "decoding.cache=prefix"], ("fixed", 0.9, "prefix")),
        (["decoding=fast", "preset.threshold=0.9"], ("credit", 0.9, "dual")),
    ],
)
@pytest.mark.parametrize("app", APPS)
def test_a_command_line_says_which_rule(app, words, said):
    params = DOORS[app](composed(app, *words))
    assert (params.rule, params.threshold, params.cache) == said


@pytest.mark.parametrize("app", APPS)
def test_what_would_play_no_part_is_refused(app):
    """A request may carry `steps` beside another rule; a command line that does is a mistake."""
    with pytest.raises(ValueError, match=r"decoding\.steps is 8 and not used: rule is 'threshold'"):
        DOORS[app](composed(app, "decoding.steps=8", "decoding.threshold=0.9"))


@pytest.mark.parametrize("app", ["bench", "eval"])
def test_the_server_that_is_started_has_the_preset_alone(app):
    """Points that differ in `decoding.*` share it."""
    validated = {"bench": validate_bench, "eval": validate_eval}[app]
    own = validated(composed(app, "decoding=exact", "decoding.cache=dual"))
    theirs = validate(composed("serve", *server_overrides(own.server_tree)))
    assert theirs.decoding == theirs.preset == own.server.preset
    assert own.request == {"cache": "dual"}
    assert own.server_tree == validated(composed(app, "decoding=exact", "decoding.steps=8")).server_tree


def test_a_field_that_no_yaml_names_has_its_declared_default(trees):
    """Prevents a new field from breaking every program until its yaml has it, too."""
    for (app, _), tree in trees.items():
        short = copy.deepcopy(tree)
        del short["preset"]["gamma"], short["decoding"]["gamma"]
        assert DOORS[app](short) == DOORS[app](tree)


def test_an_endpoint_that_runs_already_has_its_own_preset():
    for word in ("decoding=exact", "preset.cache=dual", "++preset.cache=dual"):
        with pytest.raises(ValueError, match="is of a server of our own, but url is http://a"):
            check_remote([word], ["http://a"])
        check_remote([word], [])
    check_remote(["decoding.cache=dual"], ["http://a"])
    for app, validated in (("bench", validate_bench), ("eval", validate_eval)):
        assert validated(composed(app, "url=http://a", "decoding.cache=dual")).request == {"cache": "dual"}
        with pytest.raises(ValueError, match=r"decoding\.threshold belongs to rule="):
            validated(composed(app, "url=http://a", "decoding.rule=fixed", "decoding.threshold=0.9"))


def test_help_names_every_field_in_its_declared_words():
    for text, names in ((help_preset(), PRESET_FIELDS), (help_requests(), REQUEST_FIELDS)):
        words = " ".join(text.split())
        for name in names:
            assert f"decoding.{name} {DECLARATIONS[name].help}" in words


KEYS_OF = {
    "serve": (serve_keys, MOVED_OF_SERVER),
    "bench": (bench_keys, MOVED_OF_BENCH),
    "eval": (eval_keys, MOVED),
}


def refusal(app, *words):
    keys, moved = KEYS_OF[app]
    try:
        DOORS[app](composed(app, *words))
    except (HydraException, ValueError) as error:
        return explain(error, keys(), moved)
    raise AssertionError(f"{app} takes {words}")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("request.rule=klass", "request.rule is now decoding.rule"),
        ("+request={rule: klass}", "request is now decoding"),
        ("tokens_to_generate=9", "tokens_to_generate is now decoding.max_tokens"),
        ("cache=dual", "cache is now decoding.cache"),
        ("use_cache=true", "use_cache is now decoding.cache"),
        ("decoding.use_dual_cache=true", "decoding.use_dual_cache is now decoding.cache"),
        (
            "~decoding.cache",
            "decoding.cache cannot be taken away or put elsewhere; write decoding.cache=VALUE",
        ),
        ("decoding={x: 1}", "unknown key decoding.x;"),
        ("decoding=null", "a group (decoding="),
        ("preset.steps=4", "preset.steps is 4 and not used: preset.rule is 'credit'"),
    ],
)
@pytest.mark.parametrize("app", APPS)
def test_every_program_says_what_an_odd_or_old_spelling_is_now(app, word, said):
    """Prevents one program from knowing a spelling that another calls unknown, or guesses at wrongly."""
    assert refusal(app, word).startswith(said)


@pytest.mark.parametrize(
    ("app", "word"), [("serve", "decoding.ignore_eos=true"), ("eval", "decoding.stop=x")]
)
def test_a_field_of_single_requests_is_not_taken_for_a_slip(app, word):
    assert "it is a field of single requests" in refusal(app, word)


def test_fields_in_braces_choose_no_preset():
    """Prevents `url=... decoding={threshold: 0.9}` from being refused as a preset."""
    check_remote(["decoding={threshold: 0.9}"], ("http://a",))


@pytest.mark.parametrize(
    "word",
    ["batch_size=16", "mode=batch", "model=tiny", "model.path=/x", "engine.max_length=72", "devices=2",
     "port=1", "server.max_queue=0", "dtype=auto", "+place=job", "++model.block_length=4", "log_level=info",
     "seed=1", "mode@x=batch", "workers=1,2", "host=a"],
)  # fmt: skip
def test_what_only_a_server_of_our_own_would_use_is_refused_beside_a_url(word):
    """Prevents a row whose command claims a batch size that nothing had; a default that is written too."""
    key = word.partition("=")[0].lstrip("+").partition("@")[0]
    with pytest.raises(
        ValueError, match=rf"^{re.escape(key)} is of a server of our own.* by the environment"
    ):
        check_remote([word], ["http://a"])
    with pytest.raises(ValueError, match=r"max_wait_time are of .* url is http://a: leave them out"):
        check_remote(["url=http://a", "workers=2", word, "max_wait_time=0"], ["http://a"])
    check_remote([word], [])
    check_remote(["seed=3", "concurrency=2", "url=http://a", "decoding.rule=klass"], ["http://a"], ("seed",))


def test_what_an_experiment_sets_for_a_server_is_refused_beside_a_url():
    """Prevents `experiment=decoding url=...` from measuring another preset than its file names."""
    plain = validate_bench(composed("bench")).server_tree
    for name, key in (("decoding", "preset.rule"), ("load_curve", None)):
        tree = validate_bench(composed("bench", f"experiment={name}", "url=http://a")).server_tree
        if key is None:
            check_experiment(tree, plain, ["http://a"])
            continue
        with pytest.raises(
            ValueError, match=rf"experiment sets {key}.* of a server of our own, but url is http"
        ):
            check_experiment(tree, plain, ["http://a"])
        check_experiment(tree, plain, [])
    words = ("experiment=figures/fast_dllm_gsm8k", "url=http://a", "seed=1")
    check_experiment(validate_eval(composed("eval", *words)).server_tree, plain, ["http://a"], ("seed",))
