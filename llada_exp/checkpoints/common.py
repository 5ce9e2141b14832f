"""What every source of weights shares: reading json, a config and its family, which tensors it expects.

Knows neither file formats of weights, nor where a folder came from, nor any family of models.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llada_exp.checkpoints.explain import broken_file, folder_contents, listed
from llada_exp.models.family import Architecture, Family, RawConfig, meta_network
from llada_exp.models.registry import family_of, read_architecture
from llada_exp.text import Tokenizer

FLOAT_KINDS = ("F64", "F32", "F16", "BF16")
_NUM_SHOWN = 3

Shape = tuple[int, ...]
StoredShape = tuple[Path, Shape]
"""The file that holds a tensor, and the tensor's shape."""


def read_json(path: Path) -> dict[str, Any]:
    """A json object. Raises ValueError naming the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        reason = broken_file(path) or f"not readable as json: {error}"
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            reason = "no such file"
        raise ValueError(f"{path}: {reason}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: holds a {type(value).__name__}; expected a json object")
    return value


FamilySettings = Mapping[str, Any]
"""What a checkpoint's config.json does not say, by the names of its family (`models.family.Family.settings`);
None: not given."""


@dataclass(frozen=True)
class Config:
    """A config.json, settings given at load included, its family, and the network that it describes."""

    raw: RawConfig
    family: Family
    architecture: Architecture


def config_of(raw: RawConfig, where: str, settings: FamilySettings | None = None) -> Config:
    """Raises ValueError naming `where`, key, found and expected."""
    settings = {key: value for key, value in (settings or {}).items() if value is not None}
    return Config({**raw, **settings}, family_of(raw, where), read_architecture(raw, where, settings))


def read_config(folder: Path, settings: FamilySettings | None = None) -> Config:
    """Of the folder's config.json. Raises ValueError naming file, key, found and expected."""
    path = folder / "config.json"
    if not os.path.lexists(path):
        raise ValueError(f"{path}: no such file; {folder_contents(folder)}")
    return config_of(read_json(path), str(path), settings)


def read_tokenizer(folder: Path) -> Tokenizer:
    """Raises ValueError naming the file or folder."""
    path = folder / "tokenizer.json"
    if os.path.lexists(path) and (reason := broken_file(path)):
        raise ValueError(f"{path}: {reason}")
    return Tokenizer(folder)


@dataclass(frozen=True)
class Expected:
    """Tensors of a checkpoint: name -> shape; and names of tied weights -> the name that holds them. The
    former must be there, the latter may."""

    shapes: dict[str, Shape]
    tied: dict[str, str]


def expected_tensors(architecture: Architecture) -> Expected:
    """By the network's own names, without memory for any of them."""
    first: dict[int, str] = {}
    expected = Expected({}, {})
    for name, tensor in meta_network(architecture).state_dict(keep_vars=True).items():
        expected.shapes[name] = tuple(tensor.shape)
        if first.setdefault(id(tensor), name) != name:
            expected.tied[name] = first[id(tensor)]
    return expected


def compare_tensors(where: Path, expected: Expected, stored: Mapping[str, StoredShape]) -> None:
    """Names and shapes, both ways. Raises ValueError naming the file, some keys, found and expected."""
    shapes = expected.shapes
    missing, extra = shapes.keys() - expected.tied.keys() - stored.keys(), stored.keys() - shapes.keys()
    if missing or extra:
        raise ValueError(
            f"{where}: found {len(stored)} tensors, expected the {len(shapes)} of this config.json; "
            f"missing: {some(missing)}; not expected: {some(extra)}"
        )
    for name, (path, shape) in stored.items():
        if shape != shapes[name]:
            raise ValueError(f"{path}: {name} has shape {shape}, expected {shapes[name]} by config.json")


def some(names: Iterable[str]) -> str:
    """A few of the names, for an error message."""
    return listed(names, _NUM_SHOWN) or "none"
