"""Where weights and tokenizer come from: the embedded model, a Hugging Face folder, a DCP folder.

Knows no engine, server or configuration file; `load_model` is the one way in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llada_exp.checkpoints.common import read_config
from llada_exp.checkpoints.hf import load_hf, resolve_folder, vet_hf
from llada_exp.checkpoints.tiny import tiny_folder
from llada_exp.models.base import Model, ModelShape, SpecialIds
from llada_exp.models.family import Architecture
from llada_exp.text import Tokenizer

SOURCES = ("tiny", "hf", "dcp")
DTYPES = ("float32", "bfloat16", "float16", "auto")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for inference, with the tokenizer that belongs to it.

    source, path: where it came from (path is the folder or hub id as given; the package's own for
                  the embedded model).
    name:         what to call it.
    architecture: what its config.json says, as its family, of that name, reads it.
    """

    model: Model
    tokenizer: Tokenizer
    family: str
    architecture: Architecture
    source: str
    path: str
    name: str

    @property
    def special(self) -> SpecialIds:
        return self.model.special

    @property
    def shape(self) -> ModelShape:
        return self.model.shape

    @torch.inference_mode()
    def logits(self, ids: Tensor, block_length: int | None = None) -> Tensor:
        """ids int64 [N, T] -> logits float32 [N, T, V]: a plain forward, see `models.base.Model.logits`."""
        return self.model.logits(ids, block_length)


def load_model(
    source: str = "tiny",
    path: str | Path | None = None,
    base: str | Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    name: str | None = None,
    **settings: Any,
) -> LoadedModel:
    """Load a model and its tokenizer.

    source: "tiny" (embedded), "hf" (`path`: folder or hub id), "dcp" (`path`: a
            torch.distributed.checkpoint folder; `base`: folder or hub id of config and tokenizer,
            where the training run does not hold them).
    device: "cpu", "cuda", "cuda:N" or "auto" (a GPU where there is one).
    dtype:  "float32", "bfloat16", "float16" or "auto" (bfloat16 on a GPU, float32 on the CPU).
    name:   what to call it; by default "tiny", or the last part of `path`.
    settings: what config.json does not say, by the names that the checkpoint's family has for it
            (`mask_token_id`, `block_length`); None is not given.

    Raises ValueError naming the argument and what is allowed, or the file, found and expected.
    """
    if source not in SOURCES:
        raise ValueError(f"source is {source!r}; expected one of {', '.join(SOURCES)}")
    if source == "tiny" and path is not None:
        raise ValueError(f"path is {str(path)!r}; source='tiny' has its own: use source='hf' for a folder")
    if source != "tiny" and not path:
        raise ValueError(
            f"path is {path!r}; source={source!r} needs a folder" + " or hub id" * (source == "hf")
        )
    if source != "dcp" and base is not None:
        raise ValueError(f"base is {str(base)!r}; only source='dcp' takes one")
    place, kind = target(device, dtype)
    path = path or tiny_folder()
    if source == "dcp":
        from llada_exp.checkpoints.dcp import vet_dcp

        filled = vet_dcp(path, base, settings).load(place, kind)
    else:
        filled = load_hf(path, place, kind, settings)
    default = "tiny" if source == "tiny" else Path(path).name or str(path)
    model = filled.architecture.ready(filled.network, filled.special, release=True)
    name = name or default
    return LoadedModel(model, filled.tokenizer, filled.family, filled.architecture, source, str(path), name)


def read_model_config(
    source: str, path: str | None = None, base: str | None = None, **settings: Any
) -> Architecture:
    """What `load_model` would load, from its configuration alone. Raises as it does."""
    if source == "dcp":
        from llada_exp.checkpoints.dcp import read_dcp_config

        assert path is not None
        return read_dcp_config(path, base, settings).architecture
    folder = tiny_folder() if source == "tiny" else resolve_folder(path or "", ["config.json"])
    return read_config(folder, settings).architecture


def check_weights(source: str, path: str | None = None, base: str | None = None, **settings: Any) -> str:
    """Look through what `load_model` would load, without reading a weight: every tensor is there, once, in
    its shape, in whole files. Returns words on what was looked at. Raises as `load_model` does."""
    folder = tiny_folder() if source == "tiny" else Path(path or "").expanduser()
    if source == "dcp":
        from llada_exp.checkpoints.dcp import vet_dcp

        vetted = vet_dcp(folder, base, settings)
    elif folder.is_dir():
        vetted = vet_hf(folder, settings)
    else:
        return f"not looked at: {path} is fetched from the hub when the server starts"
    return f"{len(vetted.names)} tensors, whole by their headers, in {vetted.weights}"


def target(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """What `device` and `dtype` stand for on this machine. Raises ValueError naming the argument."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
    num_gpus = torch.cuda.device_count()
    if device == "auto":
        device = "cuda" if num_gpus else "cpu"
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError):
        place = torch.device("meta")
    if place.type not in ("cpu", "cuda"):
        raise ValueError(f"device is {device!r}; expected cpu, cuda, cuda:N or auto")
    if place.type == "cuda" and (place.index or 0) >= num_gpus:
        raise ValueError(f"device is {device!r}; this machine has {num_gpus} CUDA devices")
    if dtype == "auto":
        dtype = "bfloat16" if place.type == "cuda" else "float32"
    return place, getattr(torch, dtype)
