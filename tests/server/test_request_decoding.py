"""Which decoding a request gets: named rule, implied rule, schedule, preset; contradictions are 400.

The law that every door gives the same is in tests/test_decoding.py.
"""

import json
from dataclasses import replace

import pytest

from llada_exp.decoding import describe
from llada_exp.server.routes.errors import ApiError
from llada_exp.server.routes.request_decoding import algorithms, for_choices, resolve
from llada_exp.server.routes.schema import ChatRequest, parse
from llada_exp.types import CACHES, DECLARATIONS, RULES, DecodingParams
from tests.server.conftest import say

EXACT = DecodingParams(max_tokens=200)
FAST = DecodingParams(rule="threshold", threshold=0.8, max_tokens=200)


def resolved(preset=EXACT, seed=7, **fields):
    return resolve(parse(ChatRequest, json.dumps(say("x", **fields)).encode()), preset, seed).params


def refused(preset=EXACT, **fields):
    with pytest.raises(ApiError) as caught:
        resolved(preset, **fields)
    assert caught.value.status == 400
    return caught.value


def test_a_request_that_names_nothing_gets_the_preset():
    assert resolved(FAST) == DecodingParams(rule="threshold", threshold=0.8, max_tokens=200, seed=7)


def test_nulls_name_nothing():
    nulls = dict.fromkeys(["rule", "steps", "threshold", "block_length", "cache", "max_tokens", "top_p"])
    assert resolved(FAST, **nulls) == resolved(FAST)


def test_threshold_alone_implies_its_rule():
    params = resolved(EXACT, threshold=0.5)
    assert (params.rule, params.threshold) == ("threshold", 0.5)


@pytest.mark.parametrize(
    ("fields", "rule"),
    [({"factor": 2.0}, "factor"), ({"delta": 0.1}, "frechet"), ({"low_threshold": 0.5}, "hierarchical"),
     ({"low_threshold": 0.5, "threshold": 0.8}, "hierarchical"),
     ({"rule": "credit", "threshold": 0.8}, "credit")],
)  # fmt: skip
def test_a_rules_own_parameter_implies_it(fields, rule):
    assert resolved(EXACT, **fields).rule == rule


def test_steps_alone_means_fixed():
    """NeMo-Skills sends just that, also to a server whose preset is fast."""
    params = resolved(FAST, steps=64)
    assert (params.rule, params.steps) == ("fixed", 64)


def test_steps_beside_a_threshold_do_not_change_the_rule():
    """The predecessor's clients always send steps."""
    params = resolved(EXACT, steps=64, threshold=0.9)
    assert (params.rule, params.steps) == ("threshold", None)


def test_a_named_rule_wins_over_the_preset():
    assert resolved(FAST, rule="fixed").rule == "fixed"
    assert resolved(EXACT, rule="threshold").rule == "threshold"


def test_the_presets_schedule_does_not_leak_into_a_named_one():
    preset = DecodingParams(tokens_per_step=4)
    assert resolved(preset, steps=8).tokens_per_step is None
    assert resolved(preset).tokens_per_step == 4


@pytest.mark.parametrize(
    "fields",
    [
        {"rule": "fixed", "threshold": 0.9},
        {"threshold": 0.9, "factor": 1.0},
        {"rule": "credit", "delta": 0.1},
        {"refresh": "window"},
        {"steps": 8, "tokens_per_step": 2},
        {"max_tokens": 5, "max_completion_tokens": 6},
        {"cache": "none", "generation_algorithm": "dual_cache"},
        {"cache": "none", "use_cache": True, "use_dual_cache": True},
        {"use_dual_cache": True, "use_cache": False},
        {"rule": "fixed", "generation_algorithm": "dinfer_hierarchical"},
    ],
)
def test_contradictions_are_refused(fields):
    assert refused(**fields).code in ("contradiction", "invalid_value")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"rule": "magic"}, "rule"),
        ({"cache": "magic"}, "cache"),
        ({"remasking": "magic"}, "remasking"),
        ({"generation_algorithm": "magic"}, "generation_algorithm"),
        ({"eos_confidence": "magic"}, "eos_confidence"),
    ],
)
def test_an_unknown_choice_is_refused_with_those_that_exist(fields, param):
    error = refused(**fields)
    assert error.param == param
    assert any(word in error.message for word in ("available: ", "expected one of"))


def test_rules_and_caches_open_up_as_they_are_built(monkeypatch):
    """The list of what exists lives in the declarations of `llada_exp.types`, nowhere else."""
    for name, choices in {"cache": ("none", "dual"), "rule": ("fixed", "new")}.items():
        monkeypatch.setitem(DECLARATIONS, name, replace(DECLARATIONS[name], choices=choices))
    assert resolved(generation_algorithm="dual_cache").cache == "dual"
    assert resolved(use_dual_cache=True, use_cache=True).cache == "dual"
    assert resolved(rule="new").rule == "new"
    assert "available: none, dual" in refused(generation_algorithm="prefix_cache").message
    assert "available: fixed, new" in refused(generation_algorithm="dinfer_credit").message
    assert {a["name"] for a in algorithms() if a["available"]} == {"basic", "dual_cache"}


def test_old_names_mean_what_they_meant():
    assert resolved(generation_algorithm="basic").cache == "none"
    assert resolved(generation_algorithm="basic", steps=8).rule == "fixed"
    assert resolved(generation_algorithm="dinfer_blockwise").rule == "threshold"
    assert resolved(use_cache=False).cache == "none"


def test_every_algorithm_says_whether_it_is_there():
    for entry in algorithms():
        meant = entry["stands_for"]
        there = meant.get("rule", "fixed") in RULES and meant.get("cache", "none") in CACHES
        assert entry["available"] == there
        assert entry["description"]


def test_max_tokens_by_either_name_or_the_default():
    assert resolved(max_tokens=5).max_tokens == 5
    assert resolved(max_completion_tokens=6).max_tokens == 6
    assert resolved(max_tokens=6, max_completion_tokens=6).max_tokens == 6
    assert resolved().max_tokens == 200


def test_stop_is_one_string_or_several():
    assert resolved(stop="a").stop == ("a",)
    assert resolved(stop=["a", "b"]).stop == ("a", "b")


def test_top_k_of_minus_one_is_off():
    assert resolved(top_k=-1).top_k == 0


def test_choices_have_seeds_of_their_own_and_the_first_has_the_requests():
    params = resolved(seed=5)
    seeds = [p.seed for p in for_choices(params, 1, 8, is_fresh=False)]
    assert seeds[0] == params.seed
    assert len(set(seeds)) == 8
    assert seeds == [p.seed for p in for_choices(params, 1, 8, is_fresh=True)], "a named one repeats it"
    assert all(seed < 2**53 for seed in seeds), "JavaScript reads them exactly"


def test_prompts_share_the_clients_seed_and_no_fresh_one():
    params = resolved(seed=5)
    shared = [p.seed for p in for_choices(params, 3, 2, is_fresh=False)]
    assert shared == shared[:2] * 3
    fresh = [p.seed for p in for_choices(params, 3, 2, is_fresh=True)]
    assert len(set(fresh)) == 6
    assert fresh[:2] == shared[:2]


def test_the_description_is_plain_and_whole():
    told = describe(resolved(threshold=0.5, stop="x"))
    assert json.loads(json.dumps(told)) == told
    assert (told["rule"], told["threshold"], told["stop"], told["seed"]) == ("threshold", 0.5, ["x"], 7)
