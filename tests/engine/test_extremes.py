"""Every value that the API takes gives an answer: no NaN, no id that is banned, whatever the company."""

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llada_exp.engine import EngineCore
from llada_exp.models.base import SpecialIds
from llada_exp.rules import RULES
from llada_exp.rules.candidates import choose
from llada_exp.types import CACHES, DecodingParams
from tests.engine.test_engine import PROMPT
from tests.rules.test_candidates import position_params
from tests.toys import MASK, NUM_EMITTABLE, SPECIAL, toy_model, toy_module

TINY = [5e-324, 1e-46, 1e-38, 1e-35, 1e-10, 0.0]


def loud():
    """A model whose logits are in the thousands, the mask's and those of ids without text the largest."""
    module = toy_module()
    module.model.transformer.ff_out.weight[:] *= 1000
    module.model.transformer.ff_out.weight[MASK] *= 10
    module.model.transformer.ff_out.weight[NUM_EMITTABLE:] *= 10
    return module.config.ready(module, SPECIAL)


MODELS = {"plain": toy_model(), "loud": loud()}
EXTREMES = {
    "temperature": [*TINY, 100.0, 1.0],
    "top_p": [*TINY[:-1], math.nextafter(1, 0), 1.0],
    "top_k": [0, 1, 2**31 - 1],
    "cfg_scale": [*TINY, 1000.0],
    "threshold": [5e-324, 0.0, 1.0],
    "low_threshold": [0.0, 1.0],
    "factor": [0.0, 5e-324, 1000.0],
    "delta": [-1.0, 5e-324, 1.0],
    "kl_threshold": [0.0, 5e-324, 1000.0],
    "gamma": [0.0, 5e-324, 1000.0],
    "history": [1, 64],
    "seed": [0, 2**63 - 1],
    "remasking": ["low_confidence", "topk_margin", "entropy", "random"],
    "eos_confidence": ["allow", "last", "forbid"],
    "cache": list(CACHES),
    "rule": list(RULES),
}
extreme = st.fixed_dictionaries({}, optional={name: st.sampled_from(v) for name, v in EXTREMES.items()})


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(extreme, min_size=1, max_size=4))
def test_extreme_values_give_an_answer(name, several):
    engine = EngineCore(MODELS[name], batch_size=8)
    for fields in several:
        params = DecodingParams(max_tokens=12, block_length=4, ignore_eos=True, trace=True, **fields)
        engine.add_request(PROMPT, params)
    outputs = {}
    while engine.has_work():
        outputs.update({item.request_id: item.output for item in engine.step() if item.output})
    assert len(outputs) == len(several)
    for output in outputs.values():
        assert len(output.token_ids) == 12
        assert MASK not in output.token_ids
        assert max(output.token_ids) < NUM_EMITTABLE
        assert all(np.isfinite(c) for commit in output.trace for c in commit.confidences)


@pytest.mark.parametrize("temperature", TINY)
@pytest.mark.parametrize("cfg_scale", [0.0, 1000.0])
def test_the_smallest_temperatures_are_greedy(temperature, cfg_scale):
    """Prevents an overflow of logits / temperature, which gave ids of no text."""

    def answer(temperature):
        engine = EngineCore(MODELS["loud"], batch_size=2)
        fields = {"max_tokens": 12, "block_length": 4, "ignore_eos": True, "cfg_scale": cfg_scale}
        engine.add_request(PROMPT, DecodingParams(temperature=temperature, **fields))
        return next(item.output for _ in range(99) for item in engine.step() if item.output).token_ids

    assert answer(temperature) == answer(0.0)


def test_the_smallest_top_p_leaves_the_likeliest():
    logits = torch.randn(16, 72, generator=torch.Generator().manual_seed(1)) * 3
    logits[:, MASK] = 50.0
    greedy, _ = choose(logits.clone(), SPECIAL, position_params(16))
    for top_p in TINY[:-1]:
        tokens, _ = choose(logits.clone(), SPECIAL, position_params(16, temperature=1.0, top_p=top_p))
        assert torch.equal(tokens, greedy)


@pytest.mark.parametrize("uniform", [1.0, 1 - 2**-53, 2**-54])
def test_the_ends_of_the_uniform_numbers_draw_an_id_that_has_probability(uniform):
    """The last uniform number rounds to 1, where the cumulative sum is behind every allowed id."""
    special = SpecialIds(mask=MASK, ends=(62,), bos=60, num_emittable=NUM_EMITTABLE)
    logits = torch.randn(16, 72, generator=torch.Generator().manual_seed(4))
    u = torch.full((16,), uniform, dtype=torch.float64)
    tokens, odds = choose(logits.clone(), special, position_params(16, temperature=1.0, top_k=3, uniform=u))
    assert all(int(token) in row.topk(20).indices for token, row in zip(tokens, logits, strict=True))
    assert (tokens < MASK).all()
    assert odds.isfinite().all()


def test_odds_beyond_float32_are_large_and_finite():
    """Prevents a candidate that looks like an end that is held back: those have infinite odds."""
    logits = torch.zeros(16, 72)
    logits[:, MASK] = 500.0
    _, odds = choose(logits, SPECIAL, position_params(16))
    assert odds.isfinite().all()
    assert (1 / (1 + odds) < 1e-30).all()
