"""Muon (Jordan et al., 2024) in float32: momentum whose matrices are orthogonalised before the step.

torch.optim.Muon orthogonalises in bfloat16, which a CPU without bf16 arithmetic does hundreds of times
slower. Matrices of one shape are stacked, so that the layers share their matmuls. It knows nothing of
what it optimises.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

RunAll = Callable[[Callable[[list[Tensor]], None], list[list[Tensor]]], Iterable[None]]
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(stack: Tensor, steps: int = 4) -> Tensor:
    """Newton-Schulz towards the nearest orthogonal matrix. stack float32 [S, rows, columns]."""
    a, b, c = _COEFFICIENTS
    x = stack.mT if stack.shape[1] > stack.shape[2] else stack
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if stack.shape[1] > stack.shape[2] else x


class Muon(torch.optim.Optimizer):
    """For 2-D hidden weights; embeddings, head and norms belong to AdamW."""

    def __init__(
        self,
        params: list[Tensor],
        lr: float = 0.01,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        run_all: RunAll = map,
    ) -> None:
        """run_all: map, or a pool's, which then gets two parts of every stack."""
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._run_all = run_all

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for param in group["params"]:
                if param.grad is not None:
                    shapes[param.shape].append(param)
            parts = [part for same in shapes.values() for part in (same[::2], same[1::2]) if part]
            for _ in self._run_all(functools.partial(self._move, group), parts):
                pass

    @torch.no_grad()
    def _move(self, group: dict[str, Any], params: list[Tensor]) -> None:
        """Parameters of one shape."""
        updates = []
        for param in params:
            state, grad = self.state[param], param.grad
            assert grad is not None
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(param)
            state["momentum"].lerp_(grad, 1 - group["momentum"])
            updates.append(grad.lerp(state["momentum"], group["momentum"]))
        rows, columns = params[0].shape
        scale = -group["lr"] * max(1.0, rows / columns) ** 0.5
        for param, update in zip(params, orthogonalise(torch.stack(updates)), strict=True):
            param.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=scale)
