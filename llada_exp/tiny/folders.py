"""What the trainer writes: model folders, NeMo-RL's step folders (DCP), and its own resume state.

Everything is written beside its place and renamed, so that a folder with its final name is complete.
Tensors are safetensors or DCP, the rest is JSON or YAML. It knows nothing of the training itself.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from llada_exp.models.llada import LLaDAConfig
from llada_exp.tiny.tokenizer import save_tokenizer

_STEP = re.compile(r"step_(\d+)")


def write_model(folder: Path, config: LLaDAConfig, tokenizer: Tokenizer, weights: dict[str, Tensor]) -> None:
    """A Hugging Face folder: config.json, model.safetensors, tokenizer files."""
    staged = _staged(folder)
    (staged / "config.json").write_text(json.dumps(config.to_dict(), indent=2) + "\n")
    save_file({n: w.contiguous() for n, w in weights.items()}, staged / "model.safetensors", {"format": "pt"})
    save_tokenizer(tokenizer, staged)
    _publish(staged, folder)


def write_step(
    run: Path, config: LLaDAConfig, tokenizer: Tokenizer, weights: dict[str, Tensor], info: dict[str, Any]
) -> Path:
    """`run/step_N`, laid out as NeMo-RL v1 does: DCP weights under `model.`-prefixed keys."""
    folder = run / f"step_{info['step']}"
    staged = _staged(folder)
    (staged / "training_info.json").write_text(json.dumps(info, indent=2) + "\n")
    model = {"model_name": "llada_exp/tiny", "hf_config_overrides": config.to_dict()}
    policy = {**model, "tokenizer": {"name": "policy/tokenizer"}}
    (staged / "config.yaml").write_text(json.dumps({"policy": policy}, indent=2) + "\n")  # JSON is YAML
    state = {f"model.{name}": value.clone() for name, value in weights.items()}
    dcp.save(state, checkpoint_id=str(staged / "policy" / "weights"), no_dist=True)
    save_tokenizer(tokenizer, staged / "policy" / "tokenizer")
    _publish(staged, folder)
    return folder


def write_resume(run: Path, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
    """`run/resume`: every tensor of the learner, and the numbers beside them."""
    staged = _staged(run / "resume")
    save_file({name: value.contiguous() for name, value in tensors.items()}, staged / "state.safetensors")
    (staged / "info.json").write_text(json.dumps(info, indent=2) + "\n")
    _publish(staged, run / "resume")


def read_resume(run: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What `write_resume` wrote, or None where there is nothing to resume."""
    folder = run / "resume"
    if not folder.exists():
        return None
    info = json.loads((folder / "info.json").read_text())
    return load_file(folder / "state.safetensors"), info


def prune_steps(run: Path, keep: int) -> None:
    """Remove all but the newest `keep` step folders."""
    steps = sorted((int(m[1]), p) for p in run.iterdir() if (m := _STEP.fullmatch(p.name)))
    for _, folder in steps[: max(0, len(steps) - keep)]:
        shutil.rmtree(folder)


def _staged(folder: Path) -> Path:
    staged = folder.with_name(f"tmp_{folder.name}")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    return staged


def _publish(staged: Path, folder: Path) -> None:
    for path in staged.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors writes 0600
    old = folder.with_name(f"old_{folder.name}")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    staged.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
