"""The check that a server decoded as asked: names mean there what they mean everywhere."""

import pytest

from llada_exp.decoding import describe, resolve
from llada_exp.evals.decoding_check import difference
from llada_exp.types import DecodingParams

FAST = DecodingParams(rule="credit", threshold=0.99, cache="dual", refresh="window")


def used(preset=FAST, **named):
    return describe(resolve(named, preset).params)


@pytest.mark.parametrize(
    "asked",
    [{}, {"threshold": 0.9}, {"steps": 8}, {"use_cache": True}, {"generation_algorithm": "dinfer_credit"},
     {"top_k": -1}, {"max_completion_tokens": 5}, {"stop": ["x"]}, {"colour": 1}, {"threshold": None}],
)  # fmt: skip
def test_what_a_server_would_say_passes(asked):
    named = {name: value for name, value in asked.items() if name != "colour"}
    assert difference(asked, [used(**named)] * 2) is None


def test_a_rule_that_the_names_imply_must_be_the_one_that_is_used():
    """Prevents a score under `threshold=0.9` of answers that another rule decoded with that threshold."""
    found = difference({"threshold": 0.9}, [used(threshold=0.9), used(rule="credit", threshold=0.9)])
    assert "rule was asked as 'threshold', but the server used 'credit' in 1 of 2" in found


def test_an_alias_that_did_not_arrive_is_seen():
    assert "cache was asked as 'dual', but the server used 'none'" in difference(
        {"use_dual_cache": True}, [used(DecodingParams())]
    )


def test_a_field_that_plays_no_part_is_no_field_of_the_score():
    found = difference({"threshold": 0.9, "steps": 8}, [used(threshold=0.9, steps=8)])
    assert "steps was asked as 8, but the server used None" in found


def test_names_that_no_server_takes_are_said():
    assert "belong to different rules" in difference({"threshold": 0.9, "factor": 1.0}, [used()])
    assert "refresh was asked as 'window', but the server used 'every_block'" in difference(
        {"refresh": "window"}, [used(DecodingParams())]
    )
    assert "rule is 'magic'" in difference({}, [used() | {"rule": "magic"}])
