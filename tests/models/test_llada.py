"""The native module against logits that the published code computed."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from llada_exp import load_model

REFERENCE = Path(__file__).parents[1] / "reference"
FOLDERS = ("llada-random-a", "llada-random-b")
NUM_MASKS = 32


@pytest.mark.parametrize("name", FOLDERS)
def test_logits_match_the_published_code(name):
    """Prevents a wrong rotary order, gate and up swapped, a causal mask, a misread rope theta, and a
    shard read into the wrong layer: each moves logits by far more than 1e-4."""
    loaded = load_model(source="hf", path=REFERENCE / name, device="cpu", dtype="float32")
    expected = load_file(REFERENCE / name / "expected.safetensors")
    prompts = [key for key in expected if key.startswith("prompt_")]
    assert prompts
    for key in prompts:
        masks = torch.full((NUM_MASKS,), loaded.special.mask)
        ids = torch.cat((expected[key].long().flatten(), masks))[None]
        logits = loaded.logits(ids)
        wanted = expected[key.replace("prompt", "logits")]
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits[0], wanted, atol=1e-4, rtol=0)


def test_rows_do_not_see_each_other():
    """Prevents attention across the rows of a packed batch."""
    loaded = load_model(source="hf", path=REFERENCE / FOLDERS[0])
    ids = torch.arange(24).view(2, 12)
    both = loaded.logits(ids)
    torch.testing.assert_close(both[:1], loaded.logits(ids[:1]), atol=1e-5, rtol=0)


def test_logits_refuse_what_the_model_cannot_hold():
    """Prevents a silent wrap-around of positions or ids beyond the tables."""
    loaded = load_model(source="hf", path=REFERENCE / FOLDERS[0])
    with pytest.raises(ValueError, match="maximum is 1024"):
        loaded.logits(torch.zeros(1, 1025, dtype=torch.long))
    with pytest.raises(ValueError, match="from 0 to 319"):
        loaded.logits(torch.full((1, 4), 320))
