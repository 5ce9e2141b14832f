"""What the engine needs from a model family, and nothing more.

A model is a forward over packed tokens. It knows neither rows, batches, caches nor rules: how
tokens see each other is handed to it as an `Attend` callable.

Letters used at every tensor boundary of this project:
    N rows    T row length    M packed tokens    n head rows    B block length    d model width
        H heads    K key/value heads    D head width    L layers    V vocabulary (rows of the head)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""`attend(layer, q, k, v) -> out` in the model's dtype: q, out [M, H, D]; k, v [M, K, D], where every H // K
heads of q share one; q and k are rotated."""

DEFAULT_BLOCK_LENGTH = 32
"""Of requests that name none, where the checkpoint has none of its own."""


@dataclass(frozen=True)
class Visibility:
    """Which positions of its row a position sees: always the first so many, [0, limit).

    full:           all of the row.
    block_causal:   its own block and all before it, of blocks of B positions on a grid anchored at row
                    position 0 (BD3-LM, arXiv 2503.09573; LLaDA2, SDAR).
    causal_context: before the current block a position sees itself and what stands before it; the current
                    block sees all before it and itself, both ways. Its grid starts at the prompt's end.
    block_context:  the prompt sees all of itself, a block all before it and itself, both ways. Its grid
                    starts at the prompt's end.

    block_length: the checkpoint's own B, None where it has none. A request's B sets the mask of its row.
    context: how a finished block (or the prompt) becomes what later blocks see, where blocks see nothing
             beyond themselves. joined: in the first pass of the next block. alone: in a pass of its own,
             which only writes K/V. seeds: in such a pass, whose last row says the next block's first token.
    stops: where the family's decoding ends an answer under `early_eos`. inside: once no mask stands before
           its first end. on_commit: there, but in a pass that commits an end (LLaDA2). after: after a block.
    caps_steps: whether a block takes no more steps than the answer has tokens (LLaDA2).
    """

    kind: Literal["full", "block_causal", "causal_context", "block_context"] = "full"
    block_length: int | None = None
    context: Literal["joined", "alone", "seeds"] = "joined"
    stops: Literal["inside", "on_commit", "after"] = "inside"
    caps_steps: bool = False

    @property
    def anchored(self) -> bool:
        """Whether blocks lie on a grid from row position 0, not from the prompt's end."""
        return self.kind == "block_causal"

    @property
    def sees_suffix(self) -> bool:
        """Whether a block sees what stands beyond it; if not, K/V of finished blocks are final."""
        return self.kind == "full"

    def blocks_of(self, block_length: int | None) -> int:
        """B of a request that names it or, with None, gets the checkpoint's own, else 32."""
        return block_length or self.block_length or DEFAULT_BLOCK_LENGTH

    def limits(
        self, start: int, stop: int, block_start: int, block_length: int, prompt_length: int
    ) -> np.ndarray | None:
        """int64 [stop - start]: how many of the row's first positions each of row positions [start, stop)
        sees, while the block that begins at `block_start` is current; None: all there are."""
        if self.kind == "full":
            return None
        places = np.arange(start, stop)
        if self.kind == "block_context":
            blocks = np.maximum((places - prompt_length) // block_length + 1, 0)
            return prompt_length + blocks * block_length
        if self.kind == "block_causal":
            return (places // block_length + 1) * block_length
        assert self.kind == "causal_context"
        return np.where(places < block_start, places + 1, block_start + block_length)


FULL = Visibility()


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
    """The numbers that a memory plan, a KV cache and a count of operations need.

    n_kv_heads:  K; divides n_heads. head_dim: D; need not be d_model / n_heads.
    mlp_hidden:  width of the MLP that a position passes, of layers that differ the widest; of experts: those
                 that it passes, together.
    num_parameters: of all weights, tied ones once.
    num_idle_parameters: of experts that a position does not pass.
    num_wide_parameters: that are float32 in a model of any dtype.
    mlp_widths:  of each layer, as mlp_hidden; empty where all are alike.
    experts_per_token: that a position passes in a layer, 0 where there are none.
    """

    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    mlp_hidden: int
    vocab_size: int
    max_length: int
    num_parameters: int
    num_idle_parameters: int = 0
    num_wide_parameters: int = 0
    mlp_widths: tuple[int, ...] = ()
    experts_per_token: int = 0

    @property
    def num_active_parameters(self) -> int:
        """Of weights that one position passes, the embedding and the head among them."""
        return self.num_parameters - self.num_idle_parameters

    def mlp_width(self, layer: int) -> int:
        return self.mlp_widths[layer] if self.mlp_widths else self.mlp_hidden


class Model(Protocol):
    """A masked-diffusion language model as the engine sees it.

    shift: 0: the logits of row i speak of position i; 1: of position i + 1 (position 0 keeps row 0's).
    decoding: fields of a request by which the family's published code decodes, for doors that have no preset;
              empty: exactly and greedily.
    """

    shape: ModelShape
    special: SpecialIds
    visibility: Visibility
    shift: Literal[0, 1]
    decoding: Mapping[str, Any]

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def hidden(self, ids: Tensor, positions: Tensor, attend: Attend, rows: Tensor | None = None) -> Tensor:
        """ids, positions int64 [M] -> hidden states [M, d], final norm applied; of packed `rows`
        int64 [R] alone, [R, d], where they are named."""
        ...

    def head(self, hidden: Tensor) -> Tensor:
        """hidden [n, d] -> logits float32 [n, V]."""
        ...

    def logits(self, ids: Tensor, block_length: int | None = None) -> Tensor:
        """ids int64 [N, T] -> logits float32 [N, T, V], row i's at i whatever `shift` is: a plain forward of
        the row, no padding, that obeys `visibility` with blocks of `block_length` (None: the model's own).
        Under causal_context and block_context the last `block_length` positions are the current block, and
        all before it is prompt; None: all is."""
        ...
