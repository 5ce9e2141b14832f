"""A mixture of experts: each token passes the few MLPs that its router chose, and no token's bits hang on
who else is there.

Tokens are sorted by expert, so that each expert's weights are read once a pass. On a CPU each expert's rows
are padded to a multiple of 16, as everything else that is multiplied there (engine/batch.py); a token's
experts are added up in the order of their numbers, whatever the company. On a GPU all experts are one
grouped product, where torch has it. Knows no router and no family; letters are those of models/base.py.

    E experts    k of them that a token passes    e width of one
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llada_exp.models.parts import GatedMLP, let_go

ROWS = 16
"""The row counts that the CPU's products are invariant for are its multiples."""


def _knows_groups(weight: Tensor) -> bool:
    """Whether torch has a product of groups of rows, each with its own matrix, for it."""
    return weight.device.type == "cuda" and weight.dtype is torch.bfloat16 and hasattr(torch, "_grouped_mm")


class Experts:
    """The MLPs of one layer, for inference. parts: (gate, up, down) of each of the E."""

    def __init__(self, parts: Sequence[tuple[nn.Linear, nn.Linear, nn.Linear]], release: bool) -> None:
        self._num = len(parts)
        self._one_by_one: list[GatedMLP] = []
        self._grouped = _knows_groups(parts[0][0].weight)
        if self._grouped:
            gates, ups, downs = zip(*parts, strict=True)
            self._gate_up = torch.stack(
                [torch.cat((g.weight, u.weight)).detach() for g, u in zip(gates, ups, strict=True)]
            ).transpose(1, 2)  # [E, d, 2e]
            self._down = torch.stack([part.weight.detach() for part in downs]).transpose(1, 2)  # [E, e, d]
            if release:
                let_go(*gates, *ups, *downs)
        else:
            self._one_by_one = [GatedMLP(*three, release) for three in parts]

    def __call__(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """x [M, d]; chosen int64 [M, k], weights [M, k]: each token's experts and their shares. Returns
        [M, d] in x's dtype: the weighted sum in the order of the experts' numbers, in float32
        where the weights are, else in x's dtype."""
        if not len(x):  # a step that only stores, in the last layer
            return x
        count = chosen.shape[1]
        chosen, order = chosen.sort(dim=1)
        weights = weights.gather(1, order)
        flat = chosen.flatten()
        places = flat.argsort(stable=True)  # [M k], by expert, then by token
        rows = x.index_select(0, places // count)
        if self._grouped:
            numbers = torch.arange(self._num, device=flat.device)
            passed = self._products(rows, torch.searchsorted(flat[places], numbers, right=True))
        else:
            passed = self._each(rows, torch.bincount(flat, minlength=self._num).tolist())
        by_token = torch.empty_like(passed).index_copy_(0, places, passed).view(len(x), count, -1)
        total = by_token[:, 0] * weights[:, :1]
        for number in range(1, count):
            total = total + by_token[:, number] * weights[:, number, None]
        return total.to(x.dtype)

    def _each(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """Expert after expert. rows [M k, d], sorted by expert; sizes: how many are each one's."""
        passed = torch.empty_like(rows)
        start = 0
        for expert, size in zip(self._one_by_one, sizes, strict=True):
            if size:
                padded = F.pad(rows[start : start + size], (0, 0, 0, -size % ROWS))
                passed[start : start + size] = expert.plus(padded, torch.zeros_like(padded))[:size]
            start += size
        return passed

    def _products(self, rows: Tensor, ends: Tensor) -> Tensor:
        """All at once; as `_each`. ends: int64 [E], where each expert's rows end: looked up in the sorted
        choices, for a count of them (bincount) waits for the device, and cannot be captured."""
        ends = ends.to(torch.int32)
        gate, up = torch._grouped_mm(rows, self._gate_up, offs=ends).chunk(2, dim=-1)
        return torch._grouped_mm(F.silu(gate) * up, self._down, offs=ends)
