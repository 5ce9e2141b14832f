"""One owner of the question which decoding a request gets: every door gives the same, or the same refusal."""

import argparse
import json
import math
import warnings
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from llada_exp import offline
from llada_exp.bench.engine import setting_params
from llada_exp.checkpoints import load_model
from llada_exp.decoding import ALIASES, DecodingError, check, describe, resolve
from llada_exp.evals.decoding_check import difference
from llada_exp.evals.lm.generate import InProcess, decoding_fields
from llada_exp.gate import measure as gate
from llada_exp.server.routes.errors import ApiError
from llada_exp.server.routes.request_decoding import resolve as resolve_request
from llada_exp.server.routes.schema import ChatRequest, json_schema, parse
from llada_exp.server.state.status import with_block_length
from llada_exp.tiny.evaluate import CANVAS
from llada_exp.types import (
    DECLARATIONS,
    DECODING_FIELDS,
    PRESET_FIELDS,
    REQUEST_FIELDS,
    RULES,
    RULES_WITH,
    SCHEDULE,
    DecodingParams,
)
from tests.server.conftest import composed, say

EXACT, FAST = DecodingParams(max_tokens=64), composed("decoding=fast").decoding
GROWING = replace(FAST, canvas="grow", suffix_window=None)
PRESETS = [EXACT, FAST, replace(EXACT, tokens_per_step=4, suffix_window=8), GROWING]
MODEL = load_model()


# -- the doors: names over a preset -> parameters, or a DecodingError


def server(named, preset):
    preset = with_block_length(preset, {0: {"block_length": 32}})
    try:
        request = parse(ChatRequest, json.dumps(say("x", **named)).encode())
        return resolve_request(request, preset, preset.seed or 0).params
    except ApiError as error:
        raise DecodingError(error.message, error.param, error.code) from None


def lm_eval(named, preset):
    return InProcess(MODEL, MODEL.tokenizer.encode_text, 1, preset=preset).params(named)


def gate_settings(named):
    named = {name: list(v) if isinstance(v, tuple) else v for name, v in named.items()}
    try:
        return gate.plan({"mine": named}, CANVAS["short"])["mine"]
    except ValueError as error:
        raise error.__context__ from None


def offline_api(named):
    return offline._per_prompt(named, 1, DecodingParams())[0]


def outcome(door, *arguments):
    """Parameters, or the refusal: which field, what is wrong with it, in which words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return door(*arguments)
        except DecodingError as error:
            return error.field, error.code, str(error)


def unfilled(found, named):
    """Before a model has put its block length where none is named."""
    filled = isinstance(found, DecodingParams) and named.get("block_length") is None
    return replace(found, block_length=None) if filled else found


def seeded(found):
    """Of the first answer, where nobody named a seed."""
    return replace(found, seed=found.seed or 0) if isinstance(found, DecodingParams) else found


# -- random names


def values(declaration):
    d = declaration
    junk = st.sampled_from([None, True, -1, 0, 1.5, 3, 1e300, 10**400, "x", "", [], [""], {}])
    if d.kind == "integer":
        good = st.integers(int(d.low), min(d.high or 2**20, 2**40)) | st.integers(int(d.low), 40)
    elif d.kind == "number":
        good = st.floats(d.low, d.high, exclude_min=d.open_low) | st.sampled_from([d.high, int(d.high)])
    elif d.kind == "choice":
        good = st.sampled_from(d.choices)
    elif d.kind == "flag":
        good = st.booleans()
    else:
        good = st.text("ab", min_size=1) | st.lists(st.text("ab", min_size=1), max_size=3)
    return st.one_of(*[good] * 7, st.none(), junk)


EVERY = {**{name: DECLARATIONS[name] for name in REQUEST_FIELDS}, **ALIASES}
CONTRARY = ("rule", "threshold", "low_threshold", "factor", "steps", "tokens_per_step", "cache", "refresh",
            "use_cache", "use_dual_cache", "canvas", "suffix_window")  # fmt: skip
NAMED = st.one_of(
    *(
        st.lists(st.sampled_from(names), max_size=5, unique=True).flatmap(
            lambda chosen: st.fixed_dictionaries({name: values(EVERY[name]) for name in chosen})
        )
        for names in (list(EVERY), CONTRARY)
    )
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(named=NAMED, preset=st.sampled_from(PRESETS))
@example({"steps": 64, "threshold": 0.9}, FAST)
@example({"threshold": 0.9, "low_threshold": 0.5}, FAST)
@example({"factor": 1.0, "threshold": 0.9}, FAST)
@example({"rule": "hierarchical"}, FAST)
@example({"top_k": -1, "use_cache": True}, EXACT)
def test_every_door_gives_the_same_decoding_or_the_same_refusal(named, preset):
    asked = outcome(server, named, preset)
    assert outcome(lm_eval, named, preset) == asked
    vanilla = DecodingParams(max_tokens=CANVAS["short"])
    assert seeded(outcome(gate_settings, named)) == unfilled(outcome(server, named, vanilla), named)
    assert outcome(offline_api, named) == unfilled(outcome(server, named, DecodingParams()), named)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(named=NAMED, preset=st.sampled_from(PRESETS), data=st.data())
@example({"max_tokens": 10**400}, EXACT, None)
def test_the_check_accepts_what_a_server_reports_and_no_other_value_of_what_was_named(named, preset, data):
    try:
        decoding = resolve(named, preset)
    except DecodingError:
        return
    report = json.loads(json.dumps(describe(decoding.params)))
    found = difference(named, [report])
    if decoding.unused:
        assert any(f"{name} was asked as" in found for name in decoding.unused)
        return
    assert found is None
    assert resolve(named, decoding.params) == decoding, "asked again over what was used, it is the same"
    said = [n for n, v in named.items() if v is not None and n in DECLARATIONS and n != "stop"]
    if said and data is not None:
        name = data.draw(st.sampled_from(said))
        other = data.draw(values(DECLARATIONS[name]))
        kept = outcome(DECLARATIONS[name].read, name, other)
        if not isinstance(kept, tuple) and kept is not None and not _same(kept, report[name]):
            assert difference(named, [report | {name: kept}]) is not None


def _same(a, b):
    return math.isclose(a, b) if isinstance(a, float) else a == b


@pytest.mark.parametrize("cache", ["none", "dual"])
@pytest.mark.parametrize("suffix_window", [None, 8])
def test_the_engines_benchmark_decodes_what_a_server_would(cache, suffix_window):
    options = argparse.Namespace(tokens_per_step=4, suffix_window=suffix_window)
    named = {"max_tokens": 64, "tokens_per_step": 4, "cache": cache, "suffix_window": suffix_window,
             "ignore_eos": True}  # fmt: skip
    own = seeded(replace(setting_params(64, cache, options), block_length=32))
    assert own == server(named, DecodingParams())


@settings(max_examples=60, deadline=None, derandomize=True)
@given(arguments=NAMED, own=NAMED, preset=st.sampled_from(PRESETS))
def test_an_lm_eval_task_is_decoded_in_this_process_as_on_an_endpoint(arguments, own, preset):
    """Both get the same fields, a task's arguments with the user's in their place."""
    task = {name: value for name, value in arguments.items() if name in REQUEST_FIELDS}
    for named in (task, own):
        named.pop("seed", None)
        named.pop("max_tokens", None)
    fields = decoding_fields(task, own, 0)
    assert outcome(lm_eval, fields, preset) == outcome(server, fields, preset)


# -- what each disagreement came to


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({"steps": 64, "threshold": 0.9}, {"rule": "threshold", "threshold": 0.9, "steps": None}),
        ({"threshold": 0.9, "low_threshold": 0.5}, {"rule": "hierarchical", "low_threshold": 0.5}),
        ({"rule": "hierarchical"}, {"rule": "hierarchical", "threshold": 0.999}),
        ({"steps": 64}, {"rule": "fixed", "steps": 64, "cache": "dual"}),
        ({"steps_per_block": 4}, {"rule": "fixed", "steps_per_block": 4}),
        ({"use_cache": True}, {"cache": "prefix", "suffix_window": 32}),
        ({"use_cache": True, "cache": "dual"}, {"cache": "dual"}),
        ({"rule": None, "threshold": None}, {"rule": "credit", "threshold": 0.999}),
        ({"top_p": 0.5}, {"rule": "credit", "top_p": 0.5}),
        ({"canvas": "grow"}, {"canvas": "grow", "suffix_window": None}),
        ({"rule": "fixed", "cache": "none"}, {"rule": "fixed", "suffix_window": None}),  # vanilla
    ],
)
def test_what_is_named_over_the_fast_preset(named, expected):
    params = server(named, FAST)
    assert {name: getattr(params, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("named", "field", "code", "words"),
    [
        ({"factor": 1.0, "threshold": 0.9}, "factor", "contradiction", "belong to different rules"),
        ({"rule": "fixed", "threshold": 0.9}, "threshold", "contradiction", "belongs to rule=threshold or"),
        ({"steps": 4, "steps_per_block": 2}, "steps_per_block", "contradiction", "give one of them"),
        ({"canvas": "grow", "suffix_window": 8}, "suffix_window", "contradiction", "canvas is 'grow'"),
        ({"cache": "none", "refresh": "window"}, "refresh", "contradiction", "cache is 'none'"),
        ({"threshold": 2}, "threshold", "invalid_value", "expected a number from 0 to 1"),
        ({"seed": 10**5000}, "seed", "invalid_value", "seed is a huge integer"),
        ({"use_cache": 3}, "use_cache", "invalid_value", "expected true or false"),
        ({"colour": 1}, "colour", "unknown_field", "colour is no decoding field; expected one of max_tokens"),
    ],
)
def test_a_refusal_names_the_field(named, field, code, words):
    found = outcome(lambda: resolve(named, FAST).params)
    assert found[:2] == (field, code)
    assert words in found[2]


def test_a_schedule_beside_another_rule_is_not_used_and_said_to_be():
    """The predecessor's clients always send `steps`."""
    decoding = resolve({"steps": 64, "threshold": 0.9}, EXACT)
    assert decoding.warnings == ["steps is 64 and not used: rule is 'threshold'"]
    assert resolve({"steps": 64}, FAST).warnings == []
    with pytest.warns(UserWarning, match="steps is 64 and not used"):
        offline.as_params({"steps": 64, "threshold": 0.9})


def test_what_is_about_another_refresh_is_not_used_and_said_to_be():
    """Prevents a field that asks for something from passing in silence."""
    named, every_block = {"refresh_window": 5}, DecodingParams(cache="dual")
    decoding = resolve(named, every_block)
    assert decoding.warnings == ["refresh_window is 5 and not used: refresh is 'every_block'"]
    assert decoding.params == every_block
    assert resolve(named | {"refresh": "window"}, every_block).params.refresh_window == 5
    assert resolve({"refresh_interval": 3}, FAST).warnings
    windowed = replace(every_block, refresh="window")
    assert not resolve(named, windowed).warnings
    (warning,) = resolve(named | {"cache": "none"}, windowed).warnings
    assert warning == "refresh_window is 5 and not used: cache is 'none'"
    assert not check(named).warnings, "a remote server's preset may refresh so"
    assert not resolve({"refresh_window": 32}, every_block).warnings, "it is so anyway"


def test_what_is_named_wins_over_a_preset_that_contradicts_it():
    preset = DecodingParams(tokens_per_step=4, suffix_window=8)
    assert resolve({"steps": 8}, preset).params.tokens_per_step is None
    assert resolve({"rule": "threshold"}, preset).params.tokens_per_step is None
    assert resolve({"rule": "fixed"}, preset).params.tokens_per_step == 4
    assert resolve({"canvas": "grow"}, preset).params.suffix_window is None
    assert resolve({"suffix_window": 8}, replace(EXACT, canvas="grow")).params.canvas == "whole"


def test_names_for_a_server_whose_preset_is_not_known():
    assert check({"refresh": "window"}).params.refresh == "window"
    with pytest.raises(DecodingError, match="different rules"):
        check({"factor": 1.0, "threshold": 0.9})


# -- the declarations


def test_every_list_of_fields_follows_from_the_declarations():
    assert set(DECODING_FIELDS) == set(vars(EXACT))
    of_one_request = ("seed", "stop", "stop_token_ids", "ignore_eos", "ban_ids", "logprobs", "trace")
    assert tuple(n for n in DECODING_FIELDS if n not in PRESET_FIELDS) == of_one_request
    assert set(DECODING_FIELDS) - set(REQUEST_FIELDS) == {"ban_ids", "logprobs"}
    assert SCHEDULE == ("steps", "steps_per_block", "tokens_per_step")
    assert RULES_WITH["threshold"][:3] == ("threshold", "credit", "hierarchical")
    assert {*REQUEST_FIELDS, *ALIASES} <= set(ChatRequest.model_fields)
    assert set(RULES) == set(DECLARATIONS["rule"].choices)


def test_defaults_are_values_that_may_be_said():
    for name, declaration in {**DECLARATIONS, **ALIASES}.items():
        assert declaration.check(name, declaration.default) == declaration.default
        assert declaration.help
        assert json_schema(declaration)


def test_a_new_parameter_of_a_rule_is_a_declaration(monkeypatch):
    """Prevents a second place that a new field must be written into: what resolves reads the declaration."""
    monkeypatch.setitem(DECLARATIONS, "rule", replace(DECLARATIONS["rule"], choices=(*RULES, "klass")))
    assert resolve({"kl_threshold": 0.1}, FAST).params.rule == "klass"
    assert resolve({"history": 4, "threshold": 0.5}, FAST).params.rule == "klass"
    with pytest.raises(DecodingError, match="kl_threshold belongs to rule=klass, but rule is 'credit'"):
        resolve({"kl_threshold": 0.1, "rule": "credit"}, FAST)
