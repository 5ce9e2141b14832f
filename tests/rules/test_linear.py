"""`linear` against Dream's schedule, and the rankings that it is used with."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llada_exp.engine import EngineCore
from llada_exp.fields import DecodingError
from llada_exp.rules import RULES
from llada_exp.rules.candidates import _by_entropy, _by_margin
from llada_exp.types import DecodingParams
from tests.rules.shown import candidates, row_state
from tests.toys import BOS, toy_model


def published(masks, steps):
    """Dream's `_sample`: how many of `masks` positions each of `steps` passes commits."""
    times = torch.linspace(1, 1e-3, steps + 1)
    left, counts = masks, []
    for i in range(steps):
        t, s = times[i], times[i + 1]
        share = torch.tensor(float(left)) * (1 - s / t)
        counts.append(int(share) if i < steps - 1 else left)
        left -= counts[-1]
    return counts


def passes(own, masks):
    """Counts that the rule commits until nothing is left."""
    rule, left, step, counts = RULES["linear"], masks, 0, []
    while left:
        row = row_state(own, masks, step)
        shown = candidates([[0.5] * masks], [[i < left for i in range(masks)]])
        count = int(rule.select(shown, [row]).write.sum())
        count = left if step + 1 >= rule.max_passes(row) else count
        counts.append(count)
        left, step = left - count, step + 1
    return counts


@given(st.integers(1, 64), st.integers(1, 80))
def test_each_pass_commits_what_dream_does(masks, steps):
    own = DecodingParams(rule="linear", max_tokens=masks, block_length=masks, steps=steps)
    counts = passes(own, masks)
    assert counts == published(masks, steps)[: len(counts)]
    assert sum(counts) == masks


def test_steps_are_of_the_canvas_and_steps_per_block_of_a_block():
    row = row_state(DecodingParams(rule="linear", max_tokens=16, block_length=8, steps=7), 8)
    assert row.num_blocks == 2
    assert RULES["linear"].max_passes(row) == 4
    row = row_state(DecodingParams(rule="linear", max_tokens=16, block_length=8, steps_per_block=7), 8)
    assert RULES["linear"].max_passes(row) == 7
    row = row_state(DecodingParams(rule="linear", max_tokens=16, block_length=8), 8)
    assert RULES["linear"].max_passes(row) == 8


@pytest.mark.parametrize("name", ["steps", "steps_per_block"])
def test_a_number_of_passes_has_a_bound(name):
    """Prevents a request of one token that holds a row for hours, and a schedule of gigabytes."""
    with pytest.raises(DecodingError, match=f"^{name} is 2000000000; of rule linear at most 16384$"):
        DecodingParams(rule="linear", **{name: 2 * 10**9})
    DecodingParams(rule="fixed", **{name: 2 * 10**9})


logit_rows = st.lists(st.floats(-20, 20, width=32), min_size=4, max_size=4)


@given(logit_rows)
def test_the_lead_is_the_difference_of_the_two_best_probabilities(row):
    logits = torch.tensor([row])
    odds = _by_margin(logits, logits.argmax(-1))
    first, second = logits.double().softmax(-1).topk(2).values[0].tolist()
    assert math.isclose(1 / (1 + float(odds)), first - second, rel_tol=1e-3, abs_tol=1e-5)


@given(logit_rows)
def test_a_positions_certainty_is_its_entropys(row):
    logits = torch.tensor([row])
    p = logits.double().softmax(-1)
    entropy = float(-(p * p.log()).sum())
    odds = float(_by_entropy(logits, logits.argmax(-1)))
    assert math.isclose(math.log1p(odds), entropy, rel_tol=1e-3, abs_tol=1e-6)


def test_a_sampled_token_that_is_behind_has_no_lead():
    logits = torch.tensor([[3.0, 1.0]])
    assert 1 / (1 + float(_by_margin(logits, torch.tensor([1])))) < 1e-30
    assert float(_by_entropy(logits, torch.tensor([1]))) == float(_by_entropy(logits, torch.tensor([0])))


@pytest.mark.parametrize("remasking", ["topk_margin", "entropy"])
def test_another_ranking_is_honoured_by_every_rule_that_ranks(remasking):
    model = toy_model()

    def order(**own):
        engine = EngineCore(model)
        params = DecodingParams(max_tokens=16, block_length=16, ignore_eos=True, trace=True, **own)
        engine.add_request([BOS, 7, 9], params)
        while True:
            for item in engine.step():
                if item.output:
                    return [commit.positions for commit in item.output.trace]

    for rule in ("fixed", "linear"):
        assert order(rule=rule) != order(rule=rule, remasking=remasking)
