"""What the trainer writes: model folders, NeMo-RL's step folders (DCP), and its own resume state.

Everything is written beside its place and renamed, so that a folder with its final name is complete; the
one before stands aside until then (`old_*`), and is taken back where the writer was killed in between. Model
and step folders get a SHA256SUMS. Nothing that the trainer did not write is replaced or removed.
Tensors are safetensors or DCP, the rest is JSON or YAML. It knows nothing of the training itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from llada_exp.checkpoints.sums import write_sums
from llada_exp.models.llada import LLaDAConfig
from llada_exp.tiny.tokenizer import save_tokenizer

_STEP = re.compile(r"step_(\d+)")
_INFO = "training_info.json"
_OF_A_MODEL = {"config.json", "model.safetensors"}


def check_places(run: Path, out: Path) -> None:
    """Make `run`, and what `out` is to be in. Raises ValueError where one cannot be written, or holds what is
    another's."""
    for option, place in (("--run", run), ("--out", out.parent)):
        try:
            place.mkdir(parents=True, exist_ok=True)
            trial = place / f".writable.{os.getpid()}"
            trial.touch()
            trial.unlink()
        except OSError as error:
            raise ValueError(f"{option} is {place}; it cannot be written: {error.strerror}") from None
    if out.is_dir() and any(out.iterdir()) and not all((out / name).is_file() for name in _OF_A_MODEL):
        raise ValueError(
            f"--out is {out}; it holds something else than a model: expected a folder to be made"
        )
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out is {out}, a file; expected a folder to be made")
    if others := sorted(folder.name for folder in _steps(run) if not _is_ours(folder)):
        raise ValueError(
            f"--run is {run}; its {others[0]} is of another trainer: expected a folder of one's own"
        )


@contextlib.contextmanager
def alone_in(run: Path) -> Iterator[None]:
    """Raises ValueError where another training writes into `run` now; a dead one does not hold it."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock = (run / ".lock").open("w")
    except OSError as error:
        raise ValueError(f"--run is {run}; it cannot be written: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"--run is {run}; another training writes there now") from None
        yield


def write_model(folder: Path, config: LLaDAConfig, tokenizer: Tokenizer, weights: dict[str, Tensor]) -> None:
    """A Hugging Face folder: config.json, model.safetensors, tokenizer files."""
    staged = _staged(folder)
    (staged / "config.json").write_text(json.dumps(config.to_dict(), indent=2) + "\n")
    save_file({n: w.contiguous() for n, w in weights.items()}, staged / "model.safetensors", {"format": "pt"})
    save_tokenizer(tokenizer, staged)
    write_sums(staged)
    _publish(staged, folder)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """What `write_model` wrote. Raises ValueError where there is none."""
    try:
        return load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise ValueError(f"--start is {folder}; expected a model folder of this trainer: {error}") from None


def write_step(
    run: Path, config: LLaDAConfig, tokenizer: Tokenizer, weights: dict[str, Tensor], info: dict[str, Any]
) -> Path:
    """`run/step_N`, laid out as NeMo-RL v1 does: DCP weights under `model.`-prefixed keys."""
    folder = run / f"step_{info['step']}"
    staged = _staged(folder)
    (staged / _INFO).write_text(json.dumps(info, indent=2) + "\n")
    model = {"model_name": "llada_exp/tiny", "hf_config_overrides": config.to_dict()}
    policy = {**model, "tokenizer": {"name": "policy/tokenizer"}}
    (staged / "config.yaml").write_text(json.dumps({"policy": policy}, indent=2) + "\n")  # JSON is YAML
    state = {f"model.{name}": value.clone() for name, value in weights.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # it warns of `no_dist` itself
        dcp.save(state, checkpoint_id=str(staged / "policy" / "weights"), no_dist=True)
    save_tokenizer(tokenizer, staged / "policy" / "tokenizer")
    write_sums(staged)
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
    _take_back(folder)
    if not folder.exists():
        return None
    info = json.loads((folder / "info.json").read_text())
    return load_file(folder / "state.safetensors"), info


def prune_steps(run: Path, keep: int) -> None:
    """Remove all but the newest `keep` step folders; `check_places` has seen that they are ours."""
    steps = _steps(run)
    for folder in steps[: max(0, len(steps) - keep)]:
        shutil.rmtree(folder)


def _steps(run: Path) -> list[Path]:
    """By number."""
    numbered = [(int(match[1]), path) for path in run.iterdir() if (match := _STEP.fullmatch(path.name))]
    return [path for _, path in sorted(numbered)]


def _is_ours(step: Path) -> bool:
    """NeMo-RL's steps have such a file, too, without the trainer's arguments."""
    try:
        return "arguments" in json.loads((step / _INFO).read_text())
    except (OSError, ValueError):
        return False


def _staged(folder: Path) -> Path:
    staged = folder.with_name(f"tmp_{folder.name}")
    shutil.rmtree(staged, ignore_errors=True)
    _take_back(folder)
    staged.mkdir(parents=True)
    return staged


def _take_back(folder: Path) -> None:
    """Of a writer that was killed between its two renames."""
    old = folder.with_name(f"old_{folder.name}")
    if old.exists() and not folder.exists():
        old.rename(folder)


def _publish(staged: Path, folder: Path) -> None:
    for path in staged.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors writes 0600
    old = folder.with_name(f"old_{folder.name}")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    staged.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
