"""The baselines are the published decoders: their ids and forward passes match the vectors."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks import engine_vs_baselines
from benchmarks.baselines import fast_dllm, llada, lockstep_padded
from llada_exp.checkpoints.hf import load_hf

FOLDER = Path(__file__).parents[1] / "reference" / "llada-random-a"


@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
def test_ids_and_passes_equal_the_reference(cache):
    # A slow or wrong straw man would make any comparison with it worthless.
    model = load_hf(FOLDER, torch.device("cpu"), torch.float32).network
    expected = load_file(FOLDER / "expected.safetensors")
    cases = [
        c
        for c in json.loads((FOLDER / "expected.json").read_text())["cases"]
        if c["cache"] == cache and "cfg_scale" not in c and (cache != "none" or c["decoder"] == "fixed")
    ]
    assert len(cases) > 4
    for case in cases:
        prompt = expected[case["prompt"]].tolist()
        sizes = (case["gen_length"], case["block_length"], case["steps"])
        if cache == "none":
            ids, nfe = llada(model, prompt, *sizes)
        else:
            ids, nfe = fast_dllm(model, prompt, *sizes, cache, case.get("threshold"))
        assert (ids, nfe) == (expected[case["case"]].tolist(), case["nfe"]), case


def test_the_padded_batch_gives_each_row_its_own_answer():
    model = load_hf(FOLDER, torch.device("cpu"), torch.float32).network
    expected = load_file(FOLDER / "expected.safetensors")
    prompts = [expected[f"prompt_{i}"].tolist() for i in range(3)]
    assert len({len(p) for p in prompts}) > 1
    together, _ = lockstep_padded(model, prompts, 32, 16, 32)
    assert together == [llada(model, p, 32, 16, 32)[0] for p in prompts]


def test_the_comparison_with_them_runs_and_counts_the_network_apart(capsys):
    # It replaced the engine's decoder by one of a signature that had changed, and nothing ran it.
    engine_vs_baselines.main(["--model", "tiny", "--steps", "4", "--repeats", "1", "--one-row-prompts", "1"])
    out = capsys.readouterr().out
    shares = [line.split()[-1] for line in out.splitlines() if "outside the network" in line]
    assert len(shares) == 4
    assert all(0 < float(share.removesuffix("%")) < 100 for share in shares)
    assert out.count(" = ") == 6
