"""CUDA graphs of steps: captured once for a shape, replayed for one launch.

Has run on no device yet. Knows a step as a function of one array, and no model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[[Tensor], Tensor]
"""A step's array int64 -> logits float32 [R, V]."""
CapturedStep = Callable[[Tensor, int], Tensor]
"""The same of a padded step, and how many of its rows of logits are asked for."""


class CUDAGraphs:
    """Of one device. num_logits, vocab_size: of the largest step. All graphs share one pool of memory and one
    place for their logits, or each would hold a vocabulary's width for good; the next run overwrites them, so
    they are copied."""

    def __init__(self, device: torch.device, num_logits: int, vocab_size: int) -> None:
        self._device = device
        with torch.cuda.device(device):  # else a worker's graph would be of the first device, and empty
            self._side = torch.cuda.Stream()
            self._pool = torch.cuda.graph_pool_handle()
        self._logits = torch.empty((num_logits, vocab_size), dtype=torch.float32, device=device)

    def capture(self, step: Step, flat: Tensor) -> CapturedStep:
        """flat: a step's array on the host. Raises what the device says where the step cannot be captured; no
        other should be captured after that."""
        with torch.cuda.device(self._device):
            return self._capture(step, flat.to(self._device))

    def _capture(self, step: Step, buffer: Tensor) -> CapturedStep:
        logits, current = self._logits, torch.cuda.current_stream()
        self._side.wait_stream(current)
        with torch.cuda.stream(self._side):  # the capture's own, for a library's workspace is of a stream
            for _ in range(2):
                step(buffer)
        current.wait_stream(self._side)
        graph = torch.cuda.CUDAGraph()
        # Another thread of the process may use the device meanwhile.
        how = {"pool": self._pool, "stream": self._side, "capture_error_mode": "thread_local"}
        try:
            with torch.cuda.graph(graph, **how):  # type: ignore[arg-type]
                computed = step(buffer)
                count = len(computed)
                logits[:count].copy_(computed)
                del computed
        except BaseException:
            self._leave(current)
            raise

        def replay(flat: Tensor, num_logits: int) -> Tensor:
            buffer.copy_(flat)
            graph.replay()
            return logits[:num_logits].clone()

        logits.fill_(torch.nan)
        graph.replay()
        if not logits[:count].isfinite().any():
            raise RuntimeError("a captured step computes nothing")
        return replay

    def _leave(self, current: torch.cuda.Stream) -> None:
        """After a capture that failed torch stays on its stream, and records into its pool."""
        torch.cuda.set_stream(current)
        with contextlib.suppress(Exception):
            torch._C._cuda_endAllocateToPool(self._device.index or 0, self._pool)
