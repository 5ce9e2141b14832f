"""What the engine needs from a model family, and nothing more.

A model is a forward over packed tokens. It knows neither rows, batches, caches nor rules: how
tokens see each other is handed to it as an `Attend` callable.

Letters used at every tensor boundary of this project:
    N rows    T row length    M packed tokens    n head rows    B block length
    d model width    H heads    D head width    L layers    V vocabulary (rows of the head)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""`attend(layer, q, k, v) -> out`, all [M, H, D] in the model's dtype; q and k are rotated."""


@dataclass(frozen=True)
class SpecialIds:
    """Ids with a meaning of their own. They live here and nowhere else.

    mask:  the id that stands at an undecided position.
    ends:  ids that end an answer (EOS first, then end-of-turn where the tokenizer has one).
    bos:   the id a raw prompt starts with, or None.
    num_emittable: ids at or above it have an embedding but no text, and are never emitted.
    """

    mask: int
    ends: tuple[int, ...]
    bos: int | None
    num_emittable: int


@dataclass(frozen=True)
class ModelShape:
    """The numbers a memory plan and a KV cache need."""

    d_model: int
    n_layers: int
    n_heads: int
    head_dim: int
    mlp_hidden: int
    vocab_size: int
    max_length: int
    num_parameters: int


class Model(Protocol):
    """A masked-diffusion language model as the engine sees it."""

    @property
    def shape(self) -> ModelShape: ...

    @property
    def special(self) -> SpecialIds: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def hidden(self, ids: Tensor, positions: Tensor, attend: Attend, wanted: Tensor | None = None) -> Tensor:
        """ids, positions int64 [M] -> hidden states [M, d], final norm applied; at packed rows
        `wanted` int64 [R] alone, [R, d], where they are named."""
        ...

    def head(self, hidden: Tensor) -> Tensor:
        """hidden [n, d] -> logits float32 [n, V]."""
        ...

    def logits(self, ids: Tensor) -> Tensor:
        """ids int64 [N, T] -> logits float32 [N, T, V]: a plain full forward, no padding."""
        ...
