"""The forward of a device step: packed tokens in, logits out, issued operation by operation or captured.

What a step needs of the host is one array of integers, so it takes one transfer. A step of few tokens is
bound by its host, not by its device: those are padded to one of a few shapes (`CAPTURED`) and, by `capture`,
run as a CUDA graph or through torch.compile; each shape is captured when it first comes. A step of many
tokens, or one that cannot be captured, is issued as it is. Knows no request and no rule.

Letters: M packed tokens, R rows of logits, V vocabulary.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llada_exp.engine.batch import Segment
from llada_exp.engine.kernels import FixedSizes, Kernel, kernel_of
from llada_exp.engine.kernels.sdpa import SDPA
from llada_exp.engine.kv import KV
from llada_exp.engine.pooled import PooledRows, padded
from llada_exp.models.base import Model

CAPTURES = ("none", "cuda_graph", "inductor", "trace")
"""trace: torch.compile without a compiler behind it, which says whether a step can be captured."""
CAPTURED = (32, 64, 128, 256, 512)
"""M of captured steps. Up to the largest an H100 takes hardly longer for an 8B than for one token."""
MOST_SHAPES = 64
"""Captured at most: torch.compile gives up after a few by default."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepShape:
    """arrays: name and shape of each, as they follow each other in a step's one; sizes: the kernel's."""

    arrays: tuple[tuple[str, tuple[int, ...]], ...]
    sizes: Hashable

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        counts = [math.prod(shape) for _, shape in self.arrays]
        parts = flat.split(counts)
        return {name: part.view(shape) for (name, shape), part in zip(self.arrays, parts, strict=True)}


Step = Callable[[Tensor], Tensor]
"""A step's array int64 -> logits float32 [R, V]."""


class Forward:
    """num_rows: of a step at most. capture: of `CAPTURES`; None: cuda_graph on CUDA, else none.

    Raises ValueError naming it.
    """

    def __init__(self, model: Model, kernel: Kernel, num_rows: int, capture: str | None = None) -> None:
        cuda = model.device.type == "cuda"
        capture = ("cuda_graph" if cuda else "none") if capture is None else capture
        if capture not in CAPTURES or (capture == "cuda_graph" and not cuda):
            allowed = ", ".join(c for c in CAPTURES if cuda or c != "cuda_graph")
            raise ValueError(f"capture is {capture!r}; expected one of {allowed} on {model.device.type}")
        self.model, self.kernel, self.capture = model, kernel, capture
        self._num_rows = num_rows
        self._otherwise = SDPA()
        self._captured: dict[tuple[str, StepShape], Step | None] = {}
        self._graphs = torch.cuda.graph_pool_handle() if capture == "cuda_graph" else None

    @property
    def num_captured(self) -> int:
        """Shapes that were captured so far."""
        return sum(step is not None for step in self._captured.values())

    def __call__(
        self,
        ids: np.ndarray,
        positions: np.ndarray,
        logit_rows: np.ndarray,
        segments: Sequence[Segment],
        pools: KV,
    ) -> Tensor:
        """ids, positions int64 [M]; logit_rows int64 [R]; segments: of all rows, each with a slot; pools:
        written and read. Returns float32 [R, V]."""
        rows = PooledRows.of(segments)
        fixed = self._fixed(len(ids), len(logit_rows))
        kernel = self._kernel(rows, fixed)
        if kernel is None:
            fixed, kernel = None, self._kernel(rows, None)
        assert kernel is not None
        inputs = kernel.inputs(rows, fixed, pools[0].shape[1])
        num_tokens, num_logits = (len(ids), len(logit_rows)) if fixed is None else (fixed.num_tokens,) * 2
        own = {
            "ids": padded(ids, num_tokens),
            "positions": padded(positions, num_tokens),
            "to": padded(rows.places, num_tokens),
            "logit_rows": padded(logit_rows, num_logits) if len(logit_rows) else np.zeros(num_logits, int),
        }
        arrays = {**own, **{f"kernel_{name}": array for name, array in inputs.ints.items()}}
        shape = StepShape(tuple((name, array.shape) for name, array in arrays.items()), inputs.sizes)
        flat = torch.from_numpy(np.concatenate([array.reshape(-1) for array in arrays.values()]))
        step = self._step(kernel, shape, pools)
        if fixed is None or (captured := self._capture(kernel, shape, step, flat)) is None:
            return step(flat.to(self.model.device))
        return captured(flat)[: len(logit_rows)]

    def _fixed(self, num_tokens: int, num_logits: int) -> FixedSizes | None:
        if self.capture == "none" or max(num_tokens, num_logits) > CAPTURED[-1]:
            return None
        return FixedSizes(next(m for m in CAPTURED if max(num_tokens, num_logits) <= m), self._num_rows)

    def _kernel(self, rows: PooledRows, fixed: FixedSizes | None) -> Kernel | None:
        return next((k for k in (self.kernel, self._otherwise) if k.fits(rows, fixed)), None)

    def _step(self, kernel: Kernel, shape: StepShape, pools: KV) -> Step:
        model = self.model

        def step(flat: Tensor) -> Tensor:
            inputs = shape.views(flat)
            places = inputs["to"]
            own = {
                name.removeprefix("kernel_"): x for name, x in inputs.items() if name.startswith("kernel_")
            }
            attention = kernel.attention(own, shape.sizes, model.dtype)

            def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                keys, values = pools[0][layer], pools[1][layer]
                keys.index_copy_(0, places, k)
                values.index_copy_(0, places, v)
                return attention(q, keys, values)

            hidden = model.hidden(inputs["ids"], inputs["positions"], attend, inputs["logit_rows"])
            return model.head(hidden)

        return step

    def _capture(self, kernel: Kernel, shape: StepShape, step: Step, flat: Tensor) -> Step | None:
        """The captured step of this shape; None where it cannot be captured."""
        key = kernel.name, shape
        if key not in self._captured:
            if len(self._captured) >= MOST_SHAPES:
                return None
            try:
                captured = self._graph(step, flat) if self.capture == "cuda_graph" else self._compiled(step)
                captured(flat)  # compiled here; what it writes the step writes again
                self._captured[key] = captured
            except Exception as error:
                if self.capture == "trace":
                    raise
                logger.warning("a step of %s is not captured, but issued as it is: %s", shape, error)
                self._captured[key] = None
        return self._captured[key]

    def _compiled(self, step: Step) -> Step:
        backend = "eager" if self.capture == "trace" else "inductor"
        compiled = torch.compile(step, fullgraph=True, dynamic=False, backend=backend)
        device = self.model.device

        def call(flat: Tensor) -> Tensor:
            with torch._dynamo.config.patch(recompile_limit=2 * MOST_SHAPES):
                return compiled(flat.to(device))

        return call

    def _graph(self, step: Step, flat: Tensor) -> Step:
        """A CUDA graph over a buffer of its own. Its next run overwrites its output, so that is copied."""
        buffer = flat.to(self.model.device)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):  # workspaces and compiled kernels come into being
                step(buffer)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Another thread of the process may use the device meanwhile.
        with torch.cuda.graph(graph, pool=self._graphs, capture_error_mode="thread_local"):
            logits = step(buffer)

        def replay(flat: Tensor) -> Tensor:
            buffer.copy_(flat)
            graph.replay()
            return logits.clone()

        return replay


def forward_of(
    model: Model, num_rows: int, exact: bool | None, attention: str | None, capture: str | None
) -> Forward | None:
    """As `EngineCore` takes them; None: the exact path. Raises ValueError naming what does not go."""
    if model.device.type == "cpu" if exact is None else exact:
        for name, value in (("attention", attention), ("capture", capture)):
            if value is not None:
                raise ValueError(f"{name} is {value!r}, which needs exact=false; expected null where exact")
        return None
    return Forward(model, kernel_of(attention, model.device, model.dtype), num_rows, capture)
