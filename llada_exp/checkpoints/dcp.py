"""A torch.distributed.checkpoint folder, as NeMo-RL writes it, straight into the network of its
family.

One process, no temporary copy, NeMo-RL not needed. The folder of the weights is found inside the
training run's own (`step_N`, `policy`, `weights`, `weights/model`, or the weights themselves);
config and tokenizer come from `base` or from the run. Everything is compared before a weight is
read: what torch would leave out, or leave uninitialised, is an error here.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata

from llada_exp.checkpoints.common import (
    Config,
    Expected,
    FamilySettings,
    compare_tensors,
    config_of,
    expected_tensors,
    read_config,
    read_json,
    read_tokenizer,
)
from llada_exp.checkpoints.dcp_metadata import Stored, read_metadata, torch_metadata
from llada_exp.checkpoints.dcp_safetensors import locate_chunks, read_chunks
from llada_exp.checkpoints.explain import (
    INDEX,
    SINGLE,
    broken_file,
    folder_contents,
    missing_folder,
    two_sets,
)
from llada_exp.checkpoints.hf import SMALL_FILES, resolve_folder
from llada_exp.checkpoints.special import special_ids
from llada_exp.checkpoints.sums import SUMS
from llada_exp.checkpoints.vetted import Vetted

_INNER = ("policy/weights/model", "policy/weights", "weights/model", "weights", "model", ".")
_LEVELS = ("consolidated", "model", "weights", "policy")
_WRAPPERS = ("", "model.")
"""What a stored name may have before the network's own: NeMo-RL's first format saves {"model": state}."""
_NUMBER = re.compile(r"[-+]?[0-9.]+e[-+]?[0-9]+", re.IGNORECASE)


def vet_dcp(
    path: str | Path, base: str | Path | None = None, settings: FamilySettings | None = None
) -> Vetted:
    """Everything that can be known of the DCP folder at `path` without reading a weight.

    base: folder or hub id of config.json (and of the tokenizer, where the run has none); by default
          the run's own config.json, or what its config.yaml says of the model.
    settings: of the model's family, beside config.json.

    Raises ValueError naming the folder, a few keys, what was found and what was expected.
    """
    weights = find_weights(Path(path).expanduser())
    run = _run_folder(weights)
    config, config_folder = _config(weights, run, base, settings)
    tokenizer_folder = run / "policy" / "tokenizer"
    folders = (tokenizer_folder, config_folder, weights)
    tokenizer = read_tokenizer(_first_with("tokenizer.json", *folders) or config_folder)
    special = special_ids(config, tokenizer, folders, str(path))
    is_pickled = (weights / ".metadata").is_file()
    if is_pickled and (others := [name for name in (SINGLE, INDEX) if (weights / name).exists()]):
        raise two_sets(weights, [".metadata"], others)
    stored = read_metadata(weights) if is_pickled else locate_chunks(weights)
    expected = expected_tensors(config.architecture)
    prefix = _prefix(stored, expected)
    shapes = {name.removeprefix(prefix): (weights, tensor.shape) for name, tensor in stored.items()}
    compare_tensors(weights, expected, shapes)
    check_files(weights, stored)
    read_files = _read_distcp if is_pickled else read_chunks

    def read(targets: dict[str, torch.Tensor]) -> None:
        read_files(weights, stored, {prefix + name: tensor for name, tensor in targets.items()})

    return Vetted(weights, config, tokenizer, special, shapes, read, _first_with(SUMS, run, weights))


def read_dcp_config(
    path: str | Path, base: str | Path | None = None, settings: FamilySettings | None = None
) -> Config:
    """The model's config as `vet_dcp` finds it. Raises ValueError."""
    weights = find_weights(Path(path).expanduser())
    return _config(weights, _run_folder(weights), base, settings)[0]


def find_weights(path: Path) -> Path:
    """The folder that holds the weights, at `path` or inside it. Raises ValueError for a folder that
    is still being written, holds an adapter, or no weights."""
    if not path.is_dir():
        raise ValueError(f"{missing_folder(path)}; expected a torch.distributed.checkpoint folder")
    unfinished = [part for part in path.resolve().parts if part.startswith("tmp_step_")]
    if unfinished:
        raise ValueError(f"{path}: {unfinished[0]} is still being written; expected a finished step_N")
    folders = [folder for inner in _INNER if (folder := path / inner).is_dir()]
    for folder in folders:
        if adapters := [p.name for p in folder.iterdir() if "adapter" in p.name]:
            raise ValueError(
                f"{folder}: {adapters[0]} is a LoRA adapter; expected whole weights: merge it first"
            )
    holders = [f for f in folders if (f / ".metadata").is_file() or any(f.glob("*.safetensors"))]
    if len({folder.resolve() for folder in holders}) > 1:
        raise two_sets(path, [str(holders[0])], map(str, holders[1:]))
    holders += [f / "consolidated" for f in folders if any((f / "consolidated").glob("*.safetensors"))]
    if holders:
        return holders[0]
    for folder in folders:
        if any(folder.glob("*.distcp")):
            raise ValueError(
                f"{folder}: unfinished: has .distcp files but no .metadata, which is written last"
            )
    raise ValueError(
        f"{path}: no weights there; expected .metadata with .distcp files (or safetensors) in it or in "
        f"one of {', '.join(_INNER[:-1])}; {folder_contents(path, is_dcp=True)}"
    )


def _run_folder(weights: Path) -> Path:
    """The training run's `step_N` around a weights folder (or the folder itself)."""
    folder = weights.resolve()
    for level in _LEVELS:
        if folder.name == level:
            folder = folder.parent
    return folder


def _first_with(file: str, *folders: Path) -> Path | None:
    return next((folder for folder in folders if (folder / file).is_file()), None)


def _config(
    weights: Path, run: Path, base: str | Path | None, settings: FamilySettings | None
) -> tuple[Config, Path]:
    """The model's config, and the folder that says so. Raises ValueError where none does."""
    folder = _first_with("config.json", weights, run / "policy" / "tokenizer", run / "policy", run)
    if base is not None:
        folder = resolve_folder(base, SMALL_FILES)
    if folder is not None:
        return read_config(folder, settings), folder
    policy, where = _policy(run), f"{run / 'config.yaml'}: policy"
    overrides = _overrides(policy, where)
    if "model_type" in overrides:  # a whole config: a model that was not made from another
        return config_of(overrides, f"{where}.hf_config_overrides", settings), run
    name = policy.get("model_name")
    if not isinstance(name, str):
        raise _no_base(run)
    try:
        folder = resolve_folder(name, SMALL_FILES)
    except ValueError as error:
        raise ValueError(f"{where}.model_name: {error}; give base") from error
    return config_of(read_json(folder / "config.json") | overrides, str(folder), settings), folder


def _policy(run: Path) -> dict[str, Any]:
    """The `policy` of the run's config.yaml. Raises ValueError where there is none."""
    path = run / "config.yaml"
    if not path.is_file():
        raise _no_base(run)
    import yaml

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as yaml: {error}") from error
    policy = settings.get("policy") if isinstance(settings, dict) else None
    if not isinstance(policy, dict):
        raise _no_base(run)
    return policy


def _overrides(policy: dict[str, Any], where: str) -> dict[str, Any]:
    """What the run changed of its base's config.json. (The yaml library reads 1e-05 as a string.)"""
    changes = policy.get("hf_config_overrides") or {}
    if not isinstance(changes, dict):
        raise ValueError(f"{where}.hf_config_overrides is {changes!r}; expected a mapping")
    return {k: float(v) if isinstance(v, str) and _NUMBER.fullmatch(v) else v for k, v in changes.items()}


def _no_base(run: Path) -> ValueError:
    return ValueError(
        f"base is not given, and {run} holds no config.json and no config.yaml with policy.model_name: "
        "expected base, the folder or hub id of the model that was trained"
    )


def _prefix(stored: dict[str, Stored], expected: Expected) -> str:
    """The wrapper without which most of the stored names are the network's own."""
    return max(_WRAPPERS, key=lambda prefix: sum(prefix + name in stored for name in expected.shapes))


def check_files(folder: Path, stored: dict[str, Stored]) -> None:
    """Raises ValueError for a shard file that is missing, too short, or that nothing refers to."""
    ends: dict[str, int] = {}
    for tensor in stored.values():
        for file, offset, length in tensor.places.values():
            ends[file] = max(ends.get(file, 0), offset + length)
    for file, end in ends.items():
        path = folder / file
        if not path.is_file():
            reason = broken_file(path) if path.is_symlink() else "no such file"
            raise ValueError(f"{path}: {reason}; .metadata expects {end} bytes in it")
        if path.stat().st_size < end:
            reason = broken_file(path) or "truncated?"
            raise ValueError(f"{path}: has {path.stat().st_size} bytes; .metadata expects {end} ({reason})")
    for path in folder.glob("*.distcp"):
        if path.name not in ends and path.stat().st_size:
            raise ValueError(f"{path}: holds data that .metadata does not name (of another save?)")


class _VettedReader(dcp.FileSystemReader):
    """Torch's reader over metadata that was vetted before, so that torch never unpickles the file.
    It reads shards with weights_only=True; byte entries were refused with the metadata."""

    def __init__(self, folder: Path, metadata: Metadata) -> None:
        super().__init__(folder)
        self._vetted = metadata

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        return self._vetted


def _read_distcp(folder: Path, stored: dict[str, Stored], targets: dict[str, torch.Tensor]) -> None:
    """Fill `targets` in place, cast on the way."""
    reader = _VettedReader(folder, torch_metadata(stored))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is")  # one process is the point
            dcp.load(dict(targets), storage_reader=reader, no_dist=True)
    except (CheckpointException, Exception) as error:  # the former, torch's wrapper, is a BaseException
        raise ValueError(f"{folder}: a shard cannot be read: {error}") from error
