"""What every source of weights shares: reading json, an empty model, checks, special ids.

Knows neither file formats of weights nor where a folder came from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from llada_exp.models.base import SpecialIds
from llada_exp.models.llada import LLaDA, LLaDAConfig
from llada_exp.text import Tokenizer

END_OF_TURN = "<|eot_id|>"
FLOAT_KINDS = ("F64", "F32", "F16", "BF16")
_NUM_NAMED = 3

Shape = tuple[int, ...]
Place = tuple[Path, Shape]
"""The file that holds a tensor, and the tensor's shape."""


def read_json(path: Path) -> dict[str, Any]:
    """A json object. Raises ValueError naming the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not readable as json: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: holds a {type(value).__name__}; expected a json object")
    return value


def read_config(folder: Path) -> LLaDAConfig:
    """The folder's config.json. Raises ValueError naming file, key, found and expected."""
    path = folder / "config.json"
    return LLaDAConfig.from_dict(read_json(path), str(path))


def special_ids(config: LLaDAConfig, tokenizer: Tokenizer, where: str) -> SpecialIds:
    """Special ids from the config and the tokenizer. Raises ValueError where they contradict."""
    eos, mask = config.eos_token_id, config.mask_token_id
    end_of_turn = tokenizer.token_id(END_OF_TURN)
    ends = (eos,) if end_of_turn in (None, eos) else (eos, end_of_turn)
    if tokenizer.num_tokens > config.vocab_size:
        raise ValueError(
            f"{where}: the tokenizer has {tokenizer.num_tokens} tokens and the model {config.vocab_size} "
            "embeddings; expected a tokenizer that belongs to the model"
        )
    if mask in ends:
        raise ValueError(f"{where}: mask_token_id is {mask}, which ends an answer (eos or {END_OF_TURN})")
    if mask == tokenizer.bos_id:
        raise ValueError(f"{where}: mask_token_id is {mask}, which is the tokenizer's BOS")
    ids = SpecialIds(mask=mask, ends=ends, bos=tokenizer.bos_id, num_emittable=tokenizer.num_tokens)
    if any(i >= config.vocab_size for i in (*ids.ends, ids.bos or 0)):
        raise ValueError(f"{where}: special ids {ids} lie beyond the model's {config.vocab_size} embeddings")
    return ids


class _NoInit(TorchFunctionMode):
    """Skips torch.nn.init: the values are about to be read, and on the meta device a random normal
    costs the import of torch's compiler (2 s of every start)."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def meta_model(config: LLaDAConfig) -> LLaDA:
    """A model of shapes, without memory."""
    with torch.device("meta"), _NoInit():
        return LLaDA(config)


def expected_shapes(config: LLaDAConfig) -> dict[str, Shape]:
    """Parameter name -> shape, without memory for any of them."""
    return {name: tuple(p.shape) for name, p in meta_model(config).named_parameters()}


def empty_model(config: LLaDAConfig, device: torch.device, dtype: torch.dtype) -> LLaDA:
    """A model for inference whose parameters are reserved, not yet written. On the CPU a page costs
    memory only once it is written."""
    model = meta_model(config).to(dtype)
    return model.to_empty(device=device).eval().requires_grad_(False)


def compare_tensors(where: Path, expected: Mapping[str, Shape], found: Mapping[str, Place]) -> None:
    """Names and shapes, both ways. Raises ValueError naming the file, some keys, found and expected."""
    missing, extra = expected.keys() - found.keys(), found.keys() - expected.keys()
    if missing or extra:
        raise ValueError(
            f"{where}: found {len(found)} tensors, expected the {len(expected)} of this config.json; "
            f"missing: {some(missing)}; not expected: {some(extra)}"
        )
    for name, (path, shape) in found.items():
        if shape != expected[name]:
            raise ValueError(f"{path}: {name} has shape {shape}, expected {expected[name]} by config.json")


def some(names: Iterable[str]) -> str:
    """A few of the names, for an error message."""
    ordered = sorted(names)
    more = f" and {len(ordered) - _NUM_NAMED} more" if len(ordered) > _NUM_NAMED else ""
    return (", ".join(ordered[:_NUM_NAMED]) or "none") + more
