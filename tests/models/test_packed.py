"""The network that infers is the network that was loaded."""

import pytest
import torch

from llada_exp.models import linear as linear_module
from llada_exp.models.attention import row_attention
from llada_exp.models.linear import gated, linear
from llada_exp.models.llada import packed
from llada_exp.models.parts import FusedQKV, linear_of
from tests.toys import SPECIAL, toy_model, toy_module

IDS = torch.randint(0, 60, (3, 37), generator=torch.Generator().manual_seed(0))


def test_packed_logits_are_the_modules():
    """Prevents q, k and v, or gate and up, fused in the wrong order."""
    module = toy_module()
    torch.testing.assert_close(packed(module, SPECIAL).logits(IDS), module.logits(IDS), rtol=1e-4, atol=1e-5)


def test_bfloat16_stays_near_float32():
    """Prevents a fused product that accumulates in bfloat16."""
    module = toy_module()
    exact = module.logits(IDS)
    rough = packed(module.bfloat16(), SPECIAL).logits(IDS)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.02 * exact.abs().mean()


@torch.inference_mode()
def test_wanted_rows_are_the_full_forwards():
    """Prevents a narrowed last layer whose queries, residual or attention mix up rows."""
    model = toy_model()
    ids, positions = IDS[:1].flatten(), torch.arange(37)
    wanted = torch.tensor([3, 3, 20, 36])
    attend = row_attention(1, 37)
    narrow = model.hidden(ids, positions, attend, wanted)
    torch.testing.assert_close(narrow, model.hidden(ids, positions, attend)[wanted])


def test_release_holds_the_weights_once():
    """Prevents a model whose memory is doubled for as long as it serves."""
    module = toy_module()
    packed(module, SPECIAL, release=True)
    left = {name.split(".")[-2] for name, _ in module.named_parameters()}
    assert left == {"wte", "ln_f", "attn_norm", "ff_norm"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("plain", [False, True], ids=["host", "plain"])
def test_linears_fused_forms_are_their_parts(dtype, plain, monkeypatch):
    """Prevents a layout or a fused operation that another dtype or host computes otherwise."""
    if plain:  # as on a GPU
        monkeypatch.setattr(linear_module, "_onednn_knows", lambda weight: False)
    g = torch.Generator().manual_seed(1)
    sizes = ((48, 32), (48, 32), (16, 32), (16, 48))
    weight, up, x, other = (torch.randn(s, generator=g).to(dtype) for s in sizes)
    product, second = (torch.nn.functional.linear(x.float(), w.float()) for w in (weight, up))
    layer = linear(weight)
    tolerance = {"rtol": 1e-5, "atol": 1e-4} if dtype is torch.float32 else {"rtol": 0.02, "atol": 0.1}
    for got, expected in (
        (layer(x), product),
        (layer.plus(x, other), product + other.float()),
        (gated(weight, up)(x), torch.nn.functional.silu(product) * second),
    ):
        assert got.dtype == dtype
        torch.testing.assert_close(got.float(), expected, **tolerance)


def test_fused_projections_are_their_parts_with_biases_too():
    """Prevents key heads cut at the wrong place, and a bias that is silently left out."""
    torch.manual_seed(0)
    parts = [torch.nn.Linear(8, width, bias=True) for width in (12, 6, 6)]
    x = torch.randn(16, 8)
    q, k, v = (part(x).view(16, -1, 3) for part in parts)
    with torch.inference_mode():
        qk, values = FusedQKV(parts, 4, 2, release=False)(x)
    torch.testing.assert_close(qk, torch.cat((q, k), dim=1))
    torch.testing.assert_close(values, v)
    with pytest.raises(AssertionError):
        linear_of(parts[0], release=False)
