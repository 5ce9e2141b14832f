"""Folders of training runs: by the real trainer, with the embedded model's weights, and damaged."""

import shutil
import warnings
from pathlib import Path

import tokenizers
import torch

from llada_exp.checkpoints.hf import load_hf
from llada_exp.checkpoints.tiny import tiny_folder
from llada_exp.tiny import train
from llada_exp.tiny.folders import write_step

SMALLEST = "--d-model 32 --layers 2 --heads 2 --mlp 64 --batch-tokens 512 --micro 2"
DAMAGES = ("truncated", "no_metadata", "no_tokenizer", "no_shard", "no_weights")


def trained(run: Path, steps: int) -> Path:
    """A run whose every step was saved: step_1 ... step_N, and the trainer's other folders. Knows nothing:
    its answers are noise."""
    threads = torch.get_num_threads()
    arguments = ["--run", str(run), "--steps", str(steps), "--save-minutes", "0", "--keep", str(steps)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            train.main([*arguments, *SMALLEST.split()])
    finally:
        torch.set_num_threads(threads)
    return run


def learning(run: Path, noise: dict[int, float]) -> Path:
    """A run whose steps hold the embedded model with noise of these shares of each weight's deviation. Of
    short problems, 0 has nearly all right, 0.3 three in four, 0.5 one in eight, 1 none."""
    tiny = tiny_folder()
    model = load_hf(tiny, torch.device("cpu"), torch.float32).network
    backend = tokenizers.Tokenizer.from_file(str(tiny / "tokenizer.json"))
    random = torch.Generator().manual_seed(0)
    for step, share in noise.items():
        state = {
            name: value + share * torch.randn(value.shape, generator=random) * value.std()
            for name, value in model.state_dict().items()
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write_step(run, model.config, backend, state, {"step": step})
    return run


def damage(step: Path, how: str) -> None:
    """Break a step folder as a full disk, a killed copy or a cleaning script would."""
    weights = step / "policy" / "weights"
    shard = weights / "__0_0.distcp"
    if how == "truncated":
        shard.write_bytes(shard.read_bytes()[:-1000])
    elif how == "no_metadata":
        (weights / ".metadata").unlink()
    elif how == "no_tokenizer":
        shutil.rmtree(step / "policy" / "tokenizer")
    elif how == "no_shard":
        shard.unlink()
    else:
        assert how == "no_weights"
        shutil.rmtree(weights)
