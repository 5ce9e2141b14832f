"""Experts: what each token's own choice says, bit by bit the same in any company."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from llada_exp.models.experts import Experts
from llada_exp.models.llada_moe import ExpertMLP

WIDTH, HIDDEN, COUNT, CHOSEN = 32, 24, 6, 3


def router_and_experts(dtype=torch.float32):
    torch.manual_seed(0)
    return ExpertMLP(WIDTH, HIDDEN, COUNT, CHOSEN).to(dtype).requires_grad_(False)


def plain(module, x):
    """The published forward: expert after expert, tokens added where they chose it."""
    shares, chosen = module.gate(x).float().softmax(-1).topk(CHOSEN, dim=-1)
    total = torch.zeros_like(x)
    for number, expert in enumerate(module.experts):
        token, place = torch.where(chosen == number)
        own = x[token]
        hidden = nn.functional.silu(expert.gate_proj(own)) * expert.up_proj(own)
        total.index_add_(0, token, expert.down_proj(hidden) * shares[token, place, None].to(x.dtype))
    return total


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_experts_are_the_published_sum(dtype):
    module = router_and_experts(dtype)
    x = torch.randn(32, WIDTH).to(dtype)
    mixed = module.packed(release=False).plus(x, torch.zeros_like(x))
    assert torch.allclose(
        mixed.float(), plain(module, x).float(), atol=1e-6 if dtype is torch.float32 else 2e-2
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10**6))
def test_a_tokens_bits_are_its_own_in_any_company(blocks, seed):
    """Prevents sums in the order of arrival, and products whose bits hang on an expert's number of rows."""
    packed = router_and_experts().packed(release=False)
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(16 * blocks, WIDTH, generator=draw)
    together = packed.plus(x, x)
    order = torch.randperm(len(x), generator=draw)
    assert torch.equal(packed.plus(x[order], x[order]), together[order])
    for start in range(0, len(x), 16):
        few = x[start : start + 16]
        assert torch.equal(packed.plus(few, few), together[start : start + 16])


def test_an_expert_that_nobody_chose_is_passed_over_and_one_that_all_chose_takes_all():
    module = router_and_experts()
    parts = [(e.gate_proj, e.up_proj, e.down_proj) for e in module.experts]
    experts, x = Experts(parts, release=False), torch.randn(5, WIDTH)
    chosen = torch.tensor([[4]] * 5)
    own = module.experts[4].packed(release=False).plus(x, torch.zeros_like(x))
    assert torch.allclose(experts(x, chosen, torch.ones(5, 1)), own, atol=1e-6)


def test_weights_that_are_released_are_gone_from_the_module():
    module = router_and_experts()
    module.packed(release=True)
    assert all(p is None for e in module.experts for p in (e.gate_proj.weight, e.down_proj.weight))
    assert module.gate.weight is None
