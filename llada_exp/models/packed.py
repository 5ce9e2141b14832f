"""The forward as the engine runs it, of any family: layers over packed tokens, the last of them computed only
where logits are computed.

A family hands over its layers, laid out for their device (models/parts.py); what is here is the same for all.
Letters are those of models/base.py; R: rows of the M that logits are computed of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from llada_exp.models.attention import row_attention
from llada_exp.models.base import FULL, Attend, ModelShape, SpecialIds, Visibility


class Layer(Protocol):
    def __call__(self, x: Tensor, at: Any, number: int, attend: Attend, rows: Tensor | None) -> Tensor:
        """x [M, d] -> [M, d], or [R, d] where only `rows` int64 [R] go on. at: what the model's `place`
        gives for the tokens' positions. number: which layer it is, for `attend`."""
        ...


@dataclass(eq=False)
class PackedModel:
    """A model for inference (`models/base.py` is the contract).

    embedding: [V, d]. place: positions int64 [M] -> what its layers rotate by. final_norm: of hidden states.
    to_logits: [n, d] -> [n, V].
    """

    shape: ModelShape
    special: SpecialIds
    embedding: Tensor
    place: Callable[[Tensor], Any]
    layers: Sequence[Layer]
    final_norm: Callable[[Tensor], Tensor]
    to_logits: Callable[[Tensor], Tensor]
    visibility: Visibility = FULL
    shift: Literal[0, 1] = 0
    decoding: Mapping[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return self.embedding.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.dtype

    def hidden(self, ids: Tensor, positions: Tensor, attend: Attend, rows: Tensor | None = None) -> Tensor:
        """ids, positions int64 [M] -> hidden states [M, d], final norm applied; or [R, d] of packed
        `rows` int64 [R] alone."""
        at = self.place(positions)
        x = self.embedding.index_select(0, ids)
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            x = layer(x, at, number, attend, rows if number == last else None)
        return self.final_norm(x)

    def head(self, hidden: Tensor) -> Tensor:
        """hidden [n, d] -> logits float32 [n, V]."""
        return self.to_logits(hidden).float()

    def logits(self, ids: Tensor, block_length: int | None = None) -> Tensor:
        """ids int64 [N, T] -> logits float32 [N, T, V], row i's at i (see `Model.logits`).

        Raises ValueError where T exceeds the model's maximum length or an id its vocabulary.
        """
        n_rows, length = check_ids(ids, self.shape.max_length, self.shape.vocab_size)
        positions = torch.arange(length, device=self.device).repeat(n_rows)
        attend = row_attention(n_rows, length, self.visibility, block_length, self.device)
        with torch.inference_mode():
            hidden = self.hidden(ids.to(self.device).reshape(-1), positions, attend)
            return self.head(hidden).view(n_rows, length, -1)


def check_ids(ids: Tensor, max_length: int, vocab_size: int) -> tuple[int, int]:
    """(N, T) of ids [N, T]. Raises ValueError where the model cannot take them."""
    if ids.dim() != 2:
        raise ValueError(f"ids has shape {tuple(ids.shape)}; expected two dimensions [N, T]")
    n_rows, length = ids.shape
    if length > max_length:
        raise ValueError(f"T is {length}; the model's maximum is {max_length}")
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= vocab_size):
        raise ValueError(f"ids must be from 0 to {vocab_size - 1}")
    return n_rows, length
