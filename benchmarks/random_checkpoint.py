"""Random weights as a checkpoint folder, so that a server can be measured on a larger shape.

    python -m benchmarks.random_checkpoint FOLDER --model random_31m --dtype bfloat16

Published layout, safetensors, with the embedded model's tokenizer: its special ids are the config's.
Random weights cost what trained ones cost, where the tokens per step are fixed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer

from llada_exp.bench.models import SHAPES, random_network
from llada_exp.checkpoints.tiny import tiny_folder
from llada_exp.models.llada import LLaDAConfig
from llada_exp.tiny.folders import write_model
from llada_exp.tiny.tokenizer import EOS, MASK, token_id


def write(folder: Path, model: str, dtype: torch.dtype, seed: int = 0) -> LLaDAConfig:
    """Write the folder; the same weights for the same seed."""
    tokenizer = Tokenizer.from_file(str(Path(tiny_folder()) / "tokenizer.json"))
    ids = {"mask_token_id": token_id(tokenizer, MASK), "eos_token_id": token_id(tokenizer, EOS)}
    config = LLaDAConfig.from_dict({**SHAPES[model], **ids}, model)
    weights = random_network(config, torch.device("cpu"), torch.float32, seed).state_dict()
    write_model(folder, config, tokenizer, {name: value.to(dtype) for name, value in weights.items()})
    return config


def main(argv: Sequence[str] | None = None) -> None:
    about = (__doc__ or "").split("\n\n")[0]
    p = argparse.ArgumentParser(prog="python -m benchmarks.random_checkpoint", description=about)
    p.add_argument("folder", type=Path)
    p.add_argument("--model", choices=SHAPES, default="random_31m")
    p.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    p.add_argument("--seed", type=int, default=0)
    options = p.parse_args(argv)
    write(options.folder, options.model, getattr(torch, options.dtype), options.seed)


if __name__ == "__main__":
    main()
