"""The memory plan of a server's settings: what `--plan` prints, and a worker checks before it loads.

Reads configuration, never weights.
"""

from __future__ import annotations

from llada_exp.checkpoints import read_shape, target
from llada_exp.engine.memory import MemoryPlan, device_bytes
from llada_exp.settings import ServeSettings


def memory_plan(settings: ServeSettings, device: str | None = None) -> MemoryPlan:
    """The plan of one worker, on `device` or the configured one. Raises ValueError for a model whose
    configuration is not there."""
    place, dtype = target(device or settings.device, settings.dtype)
    shape = read_shape(settings.model.source, settings.model.path, settings.model.base)
    total = device_bytes(place)
    return MemoryPlan(
        shape=shape,
        dtype=dtype,
        params=settings.decoding,
        batch_size=settings.batch_size,
        max_length=settings.engine.max_length or shape.max_length,
        max_positions=settings.engine.max_positions,
        device_total=total // settings.workers if total else None,
    )
