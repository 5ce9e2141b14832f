"""The oracle itself: against the published decoders' ids, which owe nothing to this project."""

from dataclasses import replace

import pytest

from llada_exp.gate import oracle
from llada_exp.gate.oracle import Oracle, undefined
from llada_exp.types import DecodingParams
from tests.engine.test_reference import NAMES, load, params

FIELDS = ("cache", "rule", "remasking", "canvas", "block_length", "max_tokens")


def cases():
    """One of each cache, rule, ranking, canvas, block length and number of blocks, and few of a family whose
    like is there: all take minutes, and hold too."""
    found = {}
    for name in NAMES:
        loaded, expected, told = load(name)
        model = loaded.model
        for case in told["cases"]:
            own = replace(params(case), stop=())
            if undefined(own) is None and "stop_tokens" not in case:
                key = (model.shift, *(getattr(own, field) for field in FIELDS))
                case_id = f"{name}-{case['case']}"
                found.setdefault(key, pytest.param(model, expected, case, id=case_id))
    return list(found.values())


CASES = cases()


@pytest.mark.parametrize(("model", "expected", "case"), CASES)
def test_it_decodes_what_the_published_code_decodes(model, expected, case):
    """Prevents an oracle that is wrong in the same way as the engine."""
    row, passes = Oracle(model, expected[case["prompt"]].tolist(), params(case)), 0
    while not row.done:
        row.commit(row.propose().commits())
        passes += 1
    assert row.answer() == expected[case["case"]].tolist()
    assert passes <= case["nfe"]


def test_the_cases_cover_caches_and_rules():
    seen = {(params(p.values[2]).cache, params(p.values[2]).rule) for p in CASES}
    assert {cache for cache, _ in seen} == {"none", "prefix", "dual"}
    assert {rule for _, rule in seen} == {"fixed", "threshold", "linear"}


@pytest.mark.parametrize("own", [{"temperature": 1.0}, {"remasking": "random"}, {"cfg_scale": 1.0}])
def test_what_it_does_not_define_is_refused(own):
    with pytest.raises(ValueError, match=next(iter(own))):
        Oracle(None, [1], DecodingParams(**own))


def test_a_field_that_it_does_not_know_is_not_the_engines_mistake(monkeypatch):
    """Prevents a new field that obeys its declaration, and that the gate calls inexact."""
    monkeypatch.setattr(oracle, "DEFINED", oracle.DEFINED - {"suffix_window"})
    assert undefined(DecodingParams(suffix_window=5)) == "suffix_window=5"
    assert undefined(DecodingParams(threshold=0.5, rule="threshold")) is None
    assert undefined(DecodingParams(top_p=0.5, seed=3)) is None
