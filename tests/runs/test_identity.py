"""What makes two measurements the same: the config hash of bench and evals."""

import copy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llada_exp.bench.settings import validate_bench
from llada_exp.evals.settings import validate_eval
from llada_exp.runs import identity
from llada_exp.runs.identity import NOT_IN_ANSWERS, NOT_MEASURED, config_hash
from llada_exp.runs.servers import SERVER_KEYS
from llada_exp.types import DECLARATIONS
from tests.bench.test_settings import composed as bench_tree
from tests.evals.samples import composed as eval_tree

BENCH, EVALS = bench_tree("name=a"), eval_tree("expname=a")


def leaves(tree, place=""):
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{place}{key}.")
        else:
            yield f"{place}{key}"


def changed(tree, path, value):
    tree = copy.deepcopy(tree)
    inner, *keys = tree, *path.split(".")
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return tree


def is_ignored(path, names):
    return any(path == name or path.startswith(f"{name}.") for name in names)


@pytest.mark.parametrize(
    "override",
    ["port=9", "host=0.0.0.0", "log_level=debug", "log_format=text", "server_info=/x/info.json",
     "endpoint=/x", "model.name=mine", "tracking=disabled", "resume=true", "dry_run=true",
     "server.log_prompts=true"],
)  # fmt: skip
def test_where_it_runs_and_what_is_reported_is_no_other_measurement(override):
    """Prevents a run that was moved to another port or node from being measured anew."""
    assert validate_bench(bench_tree("name=a", override)).config_hash == validate_bench(BENCH).config_hash
    assert validate_eval(eval_tree("expname=a", override)).config_hash == validate_eval(EVALS).config_hash


def test_what_only_an_evaluation_or_only_a_benchmark_has():
    for override in ("output_dir=/x", "concurrency=3", "timeout=9", "patience=1", "expname=b"):
        assert validate_eval(eval_tree(override)).config_hash == validate_eval(EVALS).config_hash
    for override in ("name=b", "exclusive=false", "vllm_json=true"):
        assert validate_bench(bench_tree(override)).config_hash == validate_bench(BENCH).config_hash
    for override in ("concurrency=3", "timeout=9"):
        assert validate_bench(bench_tree(override)).config_hash != validate_bench(BENCH).config_hash


def test_of_a_server_that_runs_already_nothing_is_ours_to_say(monkeypatch):
    remote = [validate_bench(bench_tree("url=http://a:1")), validate_eval(eval_tree("url=http://a:1"))]
    other = ["url=http://b:2/v1", "batch_size=3", "mode=streaming", "dtype=float32"]
    moved = [validate_bench(bench_tree(*other)), validate_eval(eval_tree(*other))]
    for one, same, own in zip(remote, moved, (BENCH, EVALS), strict=True):
        assert one.config_hash == same.config_hash
        assert one.config_hash not in (validate_bench(BENCH).config_hash, validate_eval(EVALS).config_hash), (
            own
        )
    monkeypatch.setenv("LLADA_SERVER_URL", "http://c:3")
    assert validate_eval(eval_tree()).config_hash == remote[1].config_hash


def test_what_is_asked_of_a_server_that_runs_already_is_measured():
    """Prevents requests' own fields from being taken for keys of the server."""
    remote = "url=http://a:1"
    bench = {validate_bench(bench_tree(remote, *o)).config_hash for o in ([], ["decoding.cache=dual"],
             ["decoding.threshold=0.5"], ["workload.seed=3"])}  # fmt: skip
    evals = {validate_eval(eval_tree(remote, *o)).config_hash for o in ([], ["decoding.cache=dual"],
             ["decoding.threshold=0.5"], ["seed=3"], ["decoding.max_tokens=9"])}  # fmt: skip
    assert (len(bench), len(evals)) == (4, 5)


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False)
    | st.lists(st.integers())
)


@given(st.data(), VALUES, st.sampled_from([(BENCH, False), (EVALS, True)]), st.booleans())
def test_ignored_keys_never_change_it_and_any_other_does(data, value, tree, remote):
    tree, of_answers = tree
    path = data.draw(st.sampled_from(sorted(leaves(tree))))
    names = {*NOT_MEASURED, *(NOT_IN_ANSWERS if of_answers else ())}
    names |= set(SERVER_KEYS) - {"seed", "decoding"} if remote else set()
    before = tree
    for key in path.split("."):
        before = before[key]
    hashes = [
        config_hash(t, remote=remote, of_answers=of_answers) for t in (tree, changed(tree, path, value))
    ]
    same = value == before and isinstance(value, bool) == isinstance(before, bool)
    assert (hashes[0] == hashes[1]) == (same or is_ignored(path, names))


def test_every_ignored_key_is_a_key():
    """Prevents a key that was renamed from being measured again unnoticed."""
    paths = {*leaves(BENCH), *leaves(EVALS)}
    for name in (*NOT_MEASURED, *NOT_IN_ANSWERS, *identity.ALWAYS):
        assert any(is_ignored(path, [name]) for path in paths), name


JSON = st.recursive(
    VALUES, lambda inner: st.dictionaries(st.text(max_size=5), inner, max_size=4), max_leaves=8
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=5))
def test_the_order_of_keys_is_no_matter(tree):
    def turned(value):
        return {k: turned(v) for k, v in reversed(value.items())} if isinstance(value, dict) else value

    assert config_hash(tree, remote=False) == config_hash(turned(tree), remote=False)


def test_numbers_count_by_value_and_texts_are_no_numbers():
    def of(value):
        return config_hash({"threshold": value}, remote=False)

    assert of(1) == of(1.0)
    assert len({of(v) for v in (1, "1", True, None, [1], 1.5, "1.0", 2, -1, float("inf"), 1e22)}) == 11
    assert of([1, 2.0]) == of((1, 2))
    assert of([1, 2]) != of([2, 1])
    assert of({"a": {"b": 2.0}}) == of({"a": {"b": 2}})


@pytest.mark.parametrize("remote", [False, True])
def test_a_field_that_is_declared_later_changes_no_measurement_of_before(remote, monkeypatch):
    """Prevents an evaluation that nobody can go on with, because somebody added a field it does not name."""
    later = {**DECLARATIONS, "later": replace(DECLARATIONS["suffix_window"], default=3)}
    monkeypatch.setattr(identity, "DECLARATIONS", later)
    for tree in (BENCH, EVALS):
        for path, value, is_same in (
            ("preset.later", 3, True),
            ("preset.later", 4, False),
            ("decoding.later", None, True),
            ("decoding.later", 3, False),
        ):
            one, other = (config_hash(t, remote=remote) for t in (tree, changed(tree, path, value)))
            assert (one == other) == (is_same or (remote and path.startswith("preset"))), path
