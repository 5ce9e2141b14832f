"""The forward of a device step: packed tokens in, logits out, issued operation by operation or captured.

What a step needs of the host is one array of integers, so it takes one transfer. A step of few tokens is
bound by its host, not by its device: those are padded to one of a few shapes (`CAPTURED`) and, by `capture`,
run as a CUDA graph or through torch.compile; each shape is captured when it first comes, or ahead of traffic
(`prepare`). A step of many tokens, or one that cannot be captured, is issued as it is. Knows no request and
no rule.

Letters: M packed tokens, R rows of logits, V vocabulary.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llada_exp.engine.batch import Segment
from llada_exp.engine.graphs import CapturedStep, CUDAGraphs, Step
from llada_exp.engine.kernels import FixedSizes, Kernel, kernel_of
from llada_exp.engine.kernels.sdpa import SDPA
from llada_exp.engine.kv import KV, KVMemory
from llada_exp.engine.pooled import PooledRows, padded
from llada_exp.models.base import Model

CAPTURES = ("none", "cuda_graph", "inductor", "trace")
"""trace: torch.compile without a compiler behind it, which says whether a step can be captured."""
CAPTURED = (32, 64, 128, 256, 512)
"""M of captured steps. A published profile of an 8B on an H100 (TeDiServe's): 11.7 ms at 64 tokens, 16.5 at
512, 29.0 at 1024; beyond, padding to few shapes would cost more than launches do."""
PREPARED_WIDTH = 32
"""Tokens of a row of the steps that are captured ahead of traffic: of a usual block."""
MOST_SHAPES = 64
"""Captured at most: torch.compile gives up after a few by default."""

PREFIX = "kernel_"
"""Of the names of a kernel's arrays among a step's."""

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
        self._captured: dict[tuple[str, StepShape], CapturedStep] = {}
        self._graphs: CUDAGraphs | None = None
        self._gave_up = False

    @property
    def num_captured(self) -> int:
        """Shapes that were captured so far."""
        return len(self._captured)

    @property
    def in_effect(self) -> str:
        """Of `CAPTURES`, how steps of few tokens run: none also where the first capture failed."""
        return "none" if self._gave_up and not self._captured else self.capture

    def prepare(self, kv: KVMemory, max_length: int) -> None:
        """Capture a step of each size, of rows in a block of theirs, or the first requests wait for that.

        kv: of which no row holds pages. max_length: of a row.
        """
        for size in CAPTURED if self.capture != "none" else ():
            count = min(self._num_rows, size // PREPARED_WIDTH)
            width = min(size // count, max_length)
            if not kv.reserve(dict.fromkeys(range(count), width)):
                return
            segments = [
                Segment(row * width, (row + 1) * width, keys=width, slot=kv.slot(row)) for row in range(count)
            ]
            num_tokens = count * width
            positions = np.tile(np.arange(width), count)
            self(np.zeros_like(positions), positions, np.arange(num_tokens), segments, kv.tensors)
            for row in range(count):
                kv.release(row)

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
        tokens = {"ids": ids, "positions": positions, "logit_rows": logit_rows}
        rows = PooledRows.of(segments)
        if (fixed := self._fixed(len(ids), len(logit_rows))) is not None:
            kernel = self._kernel(rows, fixed)
            if kernel is not None:
                shape, flat = self._inputs(kernel, rows, fixed, tokens, pools)
                captured = self._capture(kernel, shape, pools, flat)
                if captured is not None:
                    return captured(flat, len(logit_rows))
        kernel = self._kernel(rows, None)
        assert kernel is not None
        shape, flat = self._inputs(kernel, rows, None, tokens, pools)
        return self._step(kernel, shape, pools)(flat.to(self.model.device))

    def _inputs(
        self,
        kernel: Kernel,
        rows: PooledRows,
        fixed: FixedSizes | None,
        tokens: Mapping[str, np.ndarray],
        pools: KV,
    ) -> tuple[StepShape, Tensor]:
        """The step's one array, int64, on the host, and what it holds."""
        inputs = kernel.inputs(rows, fixed, pools[0].shape[1])
        arrays = {**tokens, "to": rows.places}
        if fixed is not None:
            arrays = {name: padded(array, fixed.num_tokens) for name, array in arrays.items()}
        arrays |= {PREFIX + name: array for name, array in inputs.ints.items()}
        shape = StepShape(tuple((name, array.shape) for name, array in arrays.items()), inputs.sizes)
        return shape, torch.from_numpy(np.concatenate([array.reshape(-1) for array in arrays.values()]))

    def _fixed(self, num_tokens: int, num_logits: int) -> FixedSizes | None:
        if self.capture == "none" or (self._gave_up and not self._captured):
            return None
        if max(num_tokens, num_logits) > CAPTURED[-1]:
            return None
        return FixedSizes(next(m for m in CAPTURED if max(num_tokens, num_logits) <= m), self._num_rows)

    def _kernel(self, rows: PooledRows, fixed: FixedSizes | None) -> Kernel | None:
        return next((k for k in (self.kernel, self._otherwise) if k.fits(rows, fixed)), None)

    def _step(self, kernel: Kernel, shape: StepShape, pools: KV) -> Step:
        model = self.model

        def step(flat: Tensor) -> Tensor:
            inputs = shape.views(flat)
            places = inputs["to"]
            of_kernel = {k.removeprefix(PREFIX): x for k, x in inputs.items() if k.startswith(PREFIX)}
            attention = kernel.attention(of_kernel, shape.sizes, model.dtype)

            def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                keys, values = pools[0][layer], pools[1][layer]
                keys.index_copy_(0, places, k)
                values.index_copy_(0, places, v)
                return attention(q, keys, values)

            hidden = model.hidden(inputs["ids"], inputs["positions"], attend, inputs["logit_rows"])
            return model.head(hidden)

        return step

    def _capture(self, kernel: Kernel, shape: StepShape, pools: KV, flat: Tensor) -> CapturedStep | None:
        """The captured step of this shape; None where it cannot be captured."""
        key = kernel.name, shape
        if key not in self._captured:
            if self._gave_up or len(self._captured) >= MOST_SHAPES:
                return None
            try:
                step = self._step(kernel, shape, pools)
                self._captured[key] = self._captured_step(step, flat)
            except Exception as error:
                if self.capture == "trace":
                    raise
                self._gave_up = True  # the next would fail as this one did, and cost as much
                logger.warning("no more steps are captured, but issued one operation by another: %s", error)
                return None
        return self._captured[key]

    def _captured_step(self, step: Step, flat: Tensor) -> CapturedStep:
        if self.capture == "cuda_graph":
            if self._graphs is None:
                self._graphs = CUDAGraphs(self.model.device, CAPTURED[-1], self.model.shape.vocab_size)
            return self._graphs.capture(step, flat)
        compiled = self._compiled(step)
        compiled(flat, 1)  # compiled here; what it writes the step writes again
        return compiled

    def _compiled(self, step: Step) -> CapturedStep:
        backend = "eager" if self.capture == "trace" else "inductor"
        compiled = torch.compile(step, fullgraph=True, dynamic=False, backend=backend)
        device = self.model.device

        def call(flat: Tensor, num_logits: int) -> Tensor:
            with torch._dynamo.config.patch(recompile_limit=2 * MOST_SHAPES):
                return compiled(flat.to(device))[:num_logits]

        return call


def forward_of(
    model: Model, num_rows: int, exact: bool | None, attention: str | None, capture: str | None
) -> Forward | None:
    """As `EngineCore` takes them; None: the exact path. Raises ValueError naming what does not go."""
    if model.device.type == "cpu" if exact is None else exact:
        for name, value in (("attention", attention), ("capture", capture)):
            if value is not None:
                raise ValueError(f"{name} is {value!r}, which needs exact=false; expected null where exact")
        return None
    return Forward(model, kernel_of(attention, model), num_rows, capture)
