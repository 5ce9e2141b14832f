"""LLaDA2's router: groups, a bias for the choice alone, float32 in any model, bits that are a token's own."""

import pytest
import torch

from llada_exp.models.llada2 import RoutedMLP, Routing

WIDTH = 32
ROUTING = Routing(num_experts=12, num_chosen=3, num_groups=4, num_open=2, scale=2.5, hidden=24, shared=24)


def routed(dtype):
    torch.manual_seed(0)
    module = RoutedMLP(WIDTH, ROUTING)
    torch.nn.init.normal_(module.gate.weight)
    module.gate.expert_bias.normal_(std=0.1)
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
    return module.requires_grad_(False)


def by_hand(module, x):
    """The published forward of one token, expert by expert."""
    scores = torch.sigmoid(module.gate.weight.float() @ x.float())
    biased = scores + module.gate.expert_bias
    groups = [biased[3 * g : 3 * g + 3] for g in range(4)]
    best = sorted(range(4), key=lambda g: -float(groups[g].sort().values[1:].sum()))[:2]
    chosen = sorted((e for g in best for e in range(3 * g, 3 * g + 3)), key=lambda e: -float(biased[e]))[:3]
    total = sum(float(scores[e]) for e in chosen)

    def passed(mlp):
        return mlp.down_proj(torch.nn.functional.silu(mlp.gate_proj(x)) * mlp.up_proj(x)).float()

    mixed = sum(passed(module.experts[e]) * float(scores[e]) / total * 2.5 for e in chosen)
    return mixed + passed(module.shared_experts)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_a_token_passes_the_best_of_the_best_groups_and_the_shared_expert(dtype, near):
    module = routed(dtype)
    x = torch.randn(16, WIDTH).to(dtype)
    mixed = module.packed(release=False).plus(x, torch.zeros_like(x))
    expected = torch.stack([by_hand(module, row) for row in x])
    assert (mixed.float() - expected).abs().max() < near


def test_the_bias_chooses_and_weighs_nothing_and_a_single_share_stays_as_it_is():
    scores = torch.tensor([[0.9, 0.1, 0.5, 0.4]])
    bias = torch.tensor([0.0, 0.0, 0.0, 9.0])
    two = Routing(4, 2, 2, 1, 2.0, 8, 0).choose(scores, bias)
    assert two[0].tolist() == [[3, 2]]
    assert torch.allclose(two[1], torch.tensor([[0.8 / 0.9, 1.0 / 0.9]]))
    one = Routing(4, 1, 2, 1, 2.0, 8, 0).choose(scores, torch.zeros(4))
    assert (one[0].item(), one[1].item()) == (0, pytest.approx(1.8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tokens_bits_are_its_own_in_any_company(dtype):
    packed, x = routed(dtype).packed(release=False), torch.randn(96, WIDTH).to(dtype)
    together = packed.plus(x, x)
    order = torch.randperm(len(x))
    assert torch.equal(packed.plus(x[order], x[order]), together[order])
    for start in range(0, len(x), 16):
        few = x[start : start + 16]
        assert torch.equal(packed.plus(few, few), together[start : start + 16])


def test_weights_that_are_released_are_gone_from_the_module_but_for_the_bias():
    module = routed(torch.bfloat16)
    module.packed(release=True)
    assert module.gate.weight is None
    assert module.shared_experts.up_proj.weight is None
    assert module.gate.expert_bias.dtype is torch.float32
