"""Rules that are how a family is published to be decoded, over a preset; and stop ids of a request."""

import pytest

from llada_exp.decoding import resolve
from llada_exp.fields import DecodingError
from llada_exp.types import DecodingParams


@pytest.mark.parametrize(
    ("preset", "request_", "rule"),
    [
        ("dynamic", {"threshold": 0.5}, "dynamic"),
        ("dynamic", {"steps_per_block": 8}, "dynamic"),
        ("dynamic", {"steps": 64, "threshold": 0.5}, "dynamic"),
        ("edit", {"threshold": 0.5}, "edit"),
        ("edit", {"steps": 64}, "edit"),
        ("sequential", {"steps_per_block": 8}, "sequential"),
        ("sequential", {"threshold": 0.5}, "threshold"),
        ("dynamic", {"tokens_per_step": 2}, "fixed"),
        ("dynamic", {"editing_threshold": 0.5}, "edit"),
        ("dynamic", {"rule": "threshold", "threshold": 0.5}, "threshold"),
        ("credit", {"threshold": 0.5}, "threshold"),
    ],
)
def test_a_familys_published_rule_stays_where_a_request_names_what_belongs_to_it(preset, request_, rule):
    """Prevents `threshold` alone from turning LLaDA2's decoding into another family's."""
    params = resolve(request_, DecodingParams(rule=preset)).params
    assert params.rule == rule
    assert all(getattr(params, name) == value for name, value in request_.items())


@pytest.mark.parametrize("value", [5, "x", [True], [-1], [2**31], [1.0], list(range(65))])
def test_stop_token_ids_are_token_ids(value):
    with pytest.raises(DecodingError, match=r"stop_token_ids is .*expected at most 64 token ids from 0 to"):
        resolve({"stop_token_ids": value}, DecodingParams())
    assert resolve({"stop_token_ids": [5, 7]}, DecodingParams()).params.stop_token_ids == (5, 7)
