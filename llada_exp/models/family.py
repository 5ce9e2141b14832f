"""What a model family gives the house: one `Family`, in one module of this folder, named FAMILY there.

`models/registry.py` finds it; nothing else in the house names a family. Here are the two contracts and what
reading a config.json needs, whatever the family.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from llada_exp.models.base import Model, ModelShape, SpecialIds, Visibility

RawConfig = Mapping[str, Any]
"""A config.json, with the settings given at load among its keys."""


class Architecture(Protocol):
    """The network of one checkpoint, as its config.json and its settings describe it."""

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding and of the head."""
        ...

    @property
    def mask_token_id(self) -> int | None:
        """None: config.json has none, and the tokenizer's `Family.mask_token` is it."""
        ...

    @property
    def shape(self) -> ModelShape: ...

    @property
    def visibility(self) -> Visibility: ...

    def network(self) -> nn.Module:
        """What a checkpoint loads into. Its `state_dict` has the checkpoint's names and shapes. Tied weights
        are one parameter under several names, of which a checkpoint must hold the first. Parameters are cast
        to the model's dtype; persistent buffers keep the dtype that they are made in. Whatever is no part of
        a checkpoint (rotary tables) is made in `ready`: here a device may be meta."""
        ...

    def ready(self, network: Any, special: SpecialIds, release: bool) -> Model:
        """The model of a filled `network()`. release: take its weights away part by part, so that memory
        holds them once."""
        ...


@dataclass(frozen=True)
class Family:
    """name: in messages. published: names of checkpoints that load, for messages.
    recognises: whether a config.json is of this family. At most one family says yes.
    read: (config.json, where it stands) -> architecture. Raises ValueError naming where, key, value and what
          is implemented, for whatever this code would compute otherwise than the published code.
    settings: keys that may be given at load, beside config.json or in a key's place: what a checkpoint's file
          does not say (`mask_token_id`, `block_length`). `read` checks them like any other key.
    end_tokens: texts of tokens that end an answer even where config and chat template do not say so (a
          training run's template may be any other), if the tokenizer has them.
    mask_token: text of the mask token, for checkpoints whose config.json does not name its id.
    """

    name: str
    published: str
    recognises: Callable[[RawConfig], bool]
    read: Callable[[RawConfig, str], Architecture]
    settings: tuple[str, ...] = ()
    end_tokens: tuple[str, ...] = ()
    mask_token: str | None = None


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


def meta_network(architecture: Architecture) -> nn.Module:
    """The network's shapes, without memory."""
    with torch.device("meta"), _NoInit():
        return architecture.network()


def empty_network(architecture: Architecture, device: torch.device, dtype: torch.dtype) -> Any:
    """The network for inference, its tensors reserved, not yet written. On the CPU a page costs memory only
    once it is written."""
    network = meta_network(architecture)
    made: dict[int, nn.Parameter | torch.Tensor] = {}  # tied names share one
    for tensor in network.state_dict(keep_vars=True).values():
        if id(tensor) not in made:
            is_parameter = isinstance(tensor, nn.Parameter)
            kind = dtype if is_parameter and tensor.is_floating_point() else tensor.dtype
            empty = torch.empty(tensor.shape, device=device, dtype=kind)
            made[id(tensor)] = nn.Parameter(empty, requires_grad=False) if is_parameter else empty
    state = {name: made[id(tensor)] for name, tensor in network.state_dict(keep_vars=True).items()}
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def num_parameters(architecture: Architecture) -> int:
    """Of the whole network, what a checkpoint holds beside its weights included; tied ones count once."""
    state = meta_network(architecture).state_dict(keep_vars=True)
    return sum(tensor.numel() for tensor in {id(tensor): tensor for tensor in state.values()}.values())


def refuse_others(raw: RawConfig, implemented: Mapping[str, tuple[Any, ...]], where: str) -> None:
    """Raises ValueError for a switch that stands at a value which is not implemented."""
    for key, allowed in implemented.items():
        if key in raw and raw[key] not in allowed:
            raise ValueError(f"{where}: {key} is {raw[key]!r}; only {allowed[0]!r} is implemented")


def positive_int(raw: RawConfig, key: str, where: str) -> int:
    """Raises ValueError as the others here do: naming where, key, what stands there and what may."""
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{where}: {key} is {value!r}; expected a positive integer")
    return value


def count(raw: RawConfig, key: str, where: str) -> int:
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{where}: {key} is {value!r}; expected 0 or a positive integer")
    return value


def positive_float(raw: RawConfig, key: str, where: str) -> float:
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{where}: {key} is {value!r}; expected a positive number")
    return float(value)


def flag(raw: RawConfig, key: str, where: str) -> bool:
    value = raw.get(key)
    if not isinstance(value, bool):
        raise ValueError(f"{where}: {key} is {value!r}; expected true or false")
    return value


def token_id(raw: RawConfig, key: str, vocab: int, where: str) -> int:
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < vocab:
        raise ValueError(f"{where}: {key} is {value!r}; expected an id from 0 to {vocab - 1}")
    return value


def block_length(raw: RawConfig, default: int, where: str) -> int:
    """B of a checkpoint that sees its row in blocks: the setting `block_length`, else config.json's
    `block_size`, else the default."""
    for key in ("block_length", "block_size"):
        if raw.get(key) is not None:
            return positive_int(raw, key, where)
    return default


def head_counts(raw: RawConfig, heads: str, kv_heads: str, where: str) -> tuple[int, int]:
    """H and K by their keys; K is H where the config does not say. Raises ValueError where K does not
    divide H."""
    n_heads = positive_int(raw, heads, where)
    n_kv_heads = positive_int(raw, kv_heads, where) if raw.get(kv_heads) is not None else n_heads
    if n_heads % n_kv_heads:
        raise ValueError(f"{where}: {kv_heads} is {n_kv_heads}; expected a divisor of {heads} ({n_heads})")
    return n_heads, n_kv_heads


def alternatives(names: Iterable[str]) -> str:
    """As text: a, b or c."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
