"""The published reference decoders, token by token, sixteen requests at a time."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from llada_exp.checkpoints import load_model
from llada_exp.engine import EngineCore
from llada_exp.types import CACHES, DecodingParams

REFERENCE = Path(__file__).parents[1] / "reference"


def load(name):
    folder = REFERENCE / name
    cases = json.loads((folder / "expected.json").read_text())["cases"]
    return load_model("hf", folder).model, load_file(folder / "expected.safetensors"), cases


def params(case):
    return DecodingParams(
        max_tokens=case["gen_length"],
        block_length=case["block_length"],
        steps=case["steps"],
        rule=case["decoder"],
        threshold=case.get("threshold", 0.9),
        cfg_scale=case.get("cfg_scale", 0.0),
        cache=case["cache"],
        ignore_eos=True,
        ban_ids=False,
        trace=True,
    )


@pytest.mark.parametrize("name", ["llada-random-a", "llada-random-b"])
def test_ids_and_forward_passes_equal_the_reference(name):
    model, expected, cases = load(name)
    cases = [case for case in cases if case["cache"] in CACHES]
    assert any("cfg_scale" in case for case in cases) or name.endswith("b")
    engine = EngineCore(model, batch_size=16)
    for case in cases:
        engine.add_request(expected[case["prompt"]].tolist(), params(case), request_id=case["case"])
    outputs = {}
    while engine.has_work():
        outputs.update({p.request_id: p.output for p in engine.step() if p.output})
    for case in cases:
        output = outputs[case["case"]]
        assert list(output.token_ids) == expected[case["case"]].tolist(), case
        # The cached reference decoders take a wasted pass where a block ends in its first step.
        wasted = 0 if case["cache"] == "none" else num_instant_blocks(case, output)
        assert output.nfe == case["nfe"] - wasted, case


def num_instant_blocks(case, output):
    return sum(len(commit.positions) == case["block_length"] for commit in output.trace)
