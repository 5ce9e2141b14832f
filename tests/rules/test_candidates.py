"""Candidates and their confidence, against a float64 softmax."""

import numpy as np
import pytest
import torch

from llada_exp.rules.base import Candidates, uniforms
from llada_exp.rules.candidates import Bans, PositionParams, Sampling, choose
from tests.toys import EOS, MASK, toy_model

SPECIAL = toy_model().special


def position_params(m, temperature=0.0, top_p=1.0, top_k=0, uniform=None, ban=True, no_eos=False):
    sampling = Sampling(
        temperature=torch.full((m,), temperature),
        top_p=torch.full((m,), top_p),
        top_k=torch.full((m,), top_k),
        uniform=torch.full((m,), 0.5, dtype=torch.float64) if uniform is None else uniform,
        rows=tuple(range(m)),
        any_cut=top_p < 1 or top_k > 0,
    )
    bans = Bans(torch.full((m,), ban), torch.full((m,), no_eos), any_no_eos=no_eos, all_ban=ban)
    return PositionParams(
        bans=None if ban and not no_eos else bans, sampling=sampling if temperature else None
    )


def test_confidence_is_the_clean_softmax_even_where_ids_are_banned():
    # A ban that also left the normaliser would inflate confidences and commit too early.
    logits = torch.randn(16, 72, generator=torch.Generator().manual_seed(1)) * 3
    logits[:, MASK] = 9.0
    tokens, odds = choose(logits.clone(), SPECIAL, position_params(16))
    assert MASK not in tokens
    probabilities = logits.double().softmax(-1).gather(1, tokens[:, None])[:, 0]
    torch.testing.assert_close((1 / (1 + odds)).double(), probabilities, rtol=1e-5, atol=1e-7)


def test_odds_keep_the_order_where_float32_probabilities_collapse():
    logits = torch.zeros(16, 72)
    logits[:, 7] = torch.linspace(20, 30, 16)
    _, odds = choose(logits.clone(), SPECIAL, position_params(16))
    assert len(set((1 / (1 + odds)).tolist())) < 16
    assert len(set(odds.tolist())) == 16
    assert odds.argsort().tolist() == list(range(15, -1, -1))


def test_samples_follow_the_distribution_after_temperature_and_cuts():
    m = 4096
    row = torch.randn(72, generator=torch.Generator().manual_seed(2)) * 2
    u = torch.from_numpy(uniforms(3, np.arange(m), 0, 0))
    tokens, _ = choose(row.repeat(m, 1), SPECIAL, position_params(m, 0.7, top_k=6, uniform=u))
    allowed = row.clone()
    allowed[MASK] = allowed[64:] = -torch.inf
    top = allowed.topk(6)
    expected = (top.values / 0.7).softmax(-1)
    observed = torch.stack([(tokens == i).float().mean() for i in top.indices])
    assert observed.sum() == pytest.approx(1.0)
    assert (observed - expected).abs().max() < 4 * (0.25 / m) ** 0.5


def test_top_p_keeps_the_smallest_sufficient_set():
    row = torch.full((72,), -30.0)
    row[[3, 5, 9]] = torch.tensor([0.6, 0.3, 0.1]).log()
    u = torch.linspace(0.001, 0.999, 64, dtype=torch.float64)
    tokens, _ = choose(row.repeat(64, 1), SPECIAL, position_params(64, 1.0, top_p=0.7, uniform=u))
    assert set(tokens.tolist()) == {3, 5}


def test_forbidden_ends_leave_the_choice():
    logits = torch.zeros(16, 72)
    logits[:, EOS] = 9.0
    assert EOS in choose(logits.clone(), SPECIAL, position_params(16))[0]
    assert EOS not in choose(logits.clone(), SPECIAL, position_params(16, no_eos=True))[0]


def test_ties_go_to_the_lower_position_and_unmasked_come_last():
    odds = torch.tensor([[1.0, 0.5, 0.5, torch.inf]])
    masked = torch.tensor([[True, False, True, True]])
    candidates = Candidates(torch.zeros(1, 4).long(), 1 / (1 + odds), odds, masked)
    assert candidates.ranks().tolist() == [[1, 3, 0, 2]]


def test_uniforms_are_a_function_of_seed_position_step_and_stream():
    places = np.arange(1000)
    base = uniforms(1, places, 0, 0)
    assert (uniforms(1, places[500:501], 0, 0) == base[500:501]).all()
    for other in (uniforms(2, places, 0, 0), uniforms(1, places, 1, 0), uniforms(1, places, 0, 1)):
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.15
    assert abs(base.mean() - 0.5) < 0.03
    assert base.min() > 0
    assert base.max() < 1
