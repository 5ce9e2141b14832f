"""The published reference decoders of each family, token by token, sixteen requests at a time."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from llada_exp.checkpoints import load_model
from llada_exp.engine import EngineCore
from llada_exp.text_stream import StopStrings
from llada_exp.types import CACHES, DecodingParams

REFERENCE = Path(__file__).parents[1] / "reference"
NAMES = ["llada-random-a", "llada-random-b", "illada-random", "llada_moe-random", "dream-random"]
BY_BLOCK = ["llada2-random", "llada21-random", "sdar-random", "nemotron-random"]
STRATEGIES = {
    "low_confidence_static": "fixed",
    "low_confidence_dynamic": "dynamic",
    "sequential": "sequential",
}
RANKED_BY = {"maskgit_plus": "low_confidence", "topk_margin": "topk_margin", "entropy": "entropy"}
every_reference = pytest.mark.parametrize("name", NAMES)


def load(name, **settings):
    folder = REFERENCE / name
    told = json.loads((folder / "expected.json").read_text())
    return load_model("hf", folder, **settings), load_file(folder / "expected.safetensors"), told


def params(case):
    """How a case is asked for."""
    if case["decoder"] in ("dream", "dream_block"):
        by_threshold = case["alg"] == "confidence_threshold"
        how = {"rule": "threshold"} if by_threshold else {"rule": "linear", "steps": case["steps"]}
        how["remasking"] = RANKED_BY.get(case["alg"], "low_confidence")
    elif case.get("variable"):
        how = {"rule": case["decoder"], "canvas": "grow", "steps_per_block": case["steps_per_block"]}
    else:
        how = {"rule": case["decoder"], "steps": case["steps"]}
    return DecodingParams(
        max_tokens=case["gen_length"],
        block_length=case.get("block_length", case["gen_length"]),
        threshold=case.get("threshold", 0.9),
        cfg_scale=case.get("cfg_scale", 0.0),
        cache=case["cache"],
        stop=tuple(case.get("stop_tokens", ())),
        ignore_eos=True,
        ban_ids=False,
        trace=True,
        **how,
    )


@every_reference
def test_logits_equal_the_reference(name):
    loaded, expected, told = load(name)
    mask = loaded.special.mask
    assert mask == told.get("mask_token_id", mask)
    inputs = told.get("logits") or [
        {"logits": key, "input": f"prompt_{key.removeprefix('logits_')} + 32 masks"}
        for key in expected
        if key.startswith("logits_")
    ]
    for entry in inputs:
        ids, _, masks = entry["input"].partition(" + ")
        row = [*expected[ids].tolist(), *([mask] * 32 if masks else [])]
        logits = loaded.model.logits(torch.tensor([row]))[0]
        assert (logits - expected[entry["logits"]]).abs().max() < 1e-3, entry


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "device_path"])
@every_reference
def test_ids_and_forward_passes_equal_the_reference(name, exact):
    """A third of them on the device path, which tests/engine/test_forward.py holds to the exact one."""
    loaded, expected, told = load(name)
    cases = [case for case in told["cases"] if case["cache"] in CACHES]
    assert any("cfg_scale" in case for case in cases) or name in ("llada-random-b", "dream-random")
    cases = cases if exact else cases[::3]
    engine = EngineCore(loaded.model, batch_size=16, exact=exact)
    for case in cases:
        own = params(case)
        stop = StopStrings(loaded.tokenizer, own.stop) if own.stop else None
        engine.add_request(expected[case["prompt"]].tolist(), own, request_id=case["case"], find_stop=stop)
    outputs = {}
    while engine.has_work():
        outputs.update({p.request_id: p.output for p in engine.step() if p.output})
    for case in cases:
        output = outputs[case["case"]]
        ids = expected[case["case"]].tolist()
        if "stop_tokens" in case:  # the published loop ends with the block, ours with the string
            assert output.finish_reason == "stop", case
            assert list(output.token_ids) == ids[: len(output.token_ids)], case
            assert output.nfe <= case["nfe"], case
            continue
        assert list(output.token_ids) == ids, case
        # The cached reference decoders take a wasted pass where a block ends in its first step.
        wasted = 0 if case["cache"] == "none" else num_instant_blocks(case, output)
        assert output.nfe == case["nfe"] - wasted, case


def params_by_block(case, cache):
    """How a case of a family that decodes block by block is asked for."""
    stops = case.get("stop_ids") or [case[name] for name in ("eos_id",) if name in case]
    how = {"rule": "threshold"} if "threshold" in case else {"rule": "fixed", "tokens_per_step": 1}
    if case["decoder"] == "sdar":
        how = {"rule": STRATEGIES[case["strategy"]], "steps_per_block": case["denoising_steps"]}
    if case["decoder"] == "block":
        how = {"rule": "dynamic", "steps_per_block": case["steps_per_block"]}
    if case["decoder"] == "block_edit":
        how = {
            "rule": "edit",
            "editing_threshold": case["editing_threshold"],
            "tokens_per_step": case["num_to_transfer"],
            "max_post_steps": case["max_post_steps"],
        }
    return DecodingParams(
        max_tokens=case["gen_length"],
        block_length=case["block_length"],
        threshold=case.get("threshold", 0.9),
        early_eos=case.get("eos_early_stop", True),
        stop_token_ids=tuple(stops),
        cache=cache,
        ignore_eos=True,
        ban_ids=False,
        **how,
    )


def through_first(ids, stops):
    """SDAR's published loop goes on to the end of the block."""
    return ids[: min((i + 1 for i, token in enumerate(ids) if token in stops), default=len(ids))]


@pytest.mark.parametrize("cache", ["none", "prefix"])
@pytest.mark.parametrize("name", BY_BLOCK)
def test_ids_and_passes_of_block_by_block_families_equal_the_reference(name, cache):
    """In mixed batches of sixteen; a few alone, too (test_families.py holds that this is all the same, and so
    every third case is enough for what computes all anew)."""
    cases = json.loads((REFERENCE / name / "expected.json").read_text())["cases"]
    for causal in sorted({case.get("causal_context") for case in cases}, key=str):
        loaded, expected, _ = load(name, causal_context=causal)
        # Each forwards all of its prompt, as the reference: shared blocks would save store passes.
        engine = EngineCore(loaded.model, batch_size=16, share_prefixes=False)
        mine = [case for case in cases if case.get("causal_context") == causal]
        mine = mine[::3] if cache == "none" else mine
        outputs = run_all(engine, expected, mine, cache)
        if cache == "prefix":  # beside it, with shared blocks and on the device path
            for exact in (True, False):
                other = EngineCore(loaded.model, batch_size=16, exact=exact)
                for key, output in run_all(other, expected, mine[::3], cache).items():
                    assert (output.token_ids, output.nfe) == (outputs[key].token_ids, outputs[key].nfe)
        for case in mine[:3]:
            alone = run_all(engine, expected, [case], cache)[case["case"]]
            assert same(alone) == same(outputs[case["case"]])
        for case in mine:
            output = outputs[case["case"]]
            ids = expected[case["case"]].tolist()
            assert list(output.token_ids) == through_first(ids, case.get("stop_ids", ())), case
            if name == "nemotron-random":  # all passes but the prompt's
                assert output.nfe + output.store_passes - 1 == case["nfe"], case
            else:
                assert output.nfe == case["nfe"], case
                assert output.store_passes == case.get("store_passes", output.store_passes), case


def same(output):
    return output.token_ids, output.nfe, output.store_passes, output.num_positions


def run_all(engine, expected, cases, cache):
    for case in cases:
        prompt = expected[case["prompt"]].tolist()
        engine.add_request(prompt, params_by_block(case, cache), request_id=case["case"])
    outputs = {}
    while engine.has_work():
        outputs.update({p.request_id: p.output for p in engine.step() if p.output})
    return outputs


def num_instant_blocks(case, output):
    return sum(len(commit.positions) == case["block_length"] for commit in output.trace)
