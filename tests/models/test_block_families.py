"""Families that decode block by block (SDAR, LLaDA2, Nemotron): the published forwards, what is read, and
what is refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file

from llada_exp.checkpoints import load_model
from tests.models.test_bodies import folder_of

NAMES = ("sdar", "llada2", "llada21", "nemotron")
every_family = pytest.mark.parametrize("name", NAMES)
CLOSE = 2e-4  # the published eager attention differs from SDPA by up to 1e-4


def expected_of(name):
    folder = folder_of(name)
    return load_file(folder / "expected.safetensors"), json.loads((folder / "expected.json").read_text())


def block_of(entry):
    """What `Model.logits` takes for the attention that expected.json names."""
    if entry["attention"] == "causal":
        return None  # all is context
    return entry.get("block_length", 32)


@every_family
def test_logits_equal_the_published_forward(name):
    loaded, (tensors, facts) = load_model("hf", folder_of(name)), expected_of(name)
    assert loaded.special.mask == facts["mask_token_id"]
    for entry in facts["logits"]:
        ids, _, masks = entry["input"].partition(" + ")
        row = [*tensors[ids].tolist(), *([facts["mask_token_id"]] * 32 if masks else [])]
        logits = loaded.logits(torch.tensor([row]), block_of(entry))[0]
        wanted = tensors[entry["logits"]]
        assert (logits[-len(wanted) :] - wanted).abs().max() < CLOSE, entry
