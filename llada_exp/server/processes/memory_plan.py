"""The memory plan of a server's settings: what `--plan` prints, and a worker checks before it loads.

Reads configuration and headers of files, never weights.
"""

from __future__ import annotations

from dataclasses import replace

from llada_exp.checkpoints import check_weights, read_model_config, target
from llada_exp.engine.budget import step_positions
from llada_exp.engine.memory import MemoryPlan, device_bytes
from llada_exp.settings import ServeSettings


def memory_plan(
    settings: ServeSettings, device: str | None = None, mix: tuple[int, int] | None = None
) -> MemoryPlan:
    """The plan of one worker, on `device` or the configured one. mix: mean tokens of prompt and canvas to
    plan for, too. Raises ValueError for a model whose configuration is not there."""
    place, dtype = target(device or settings.device, settings.dtype)
    model, params = settings.model, settings.decoding
    architecture = read_model_config(model.source, model.path, model.base, **model.settings)
    if params.block_length is None:
        params = replace(params, block_length=architecture.visibility.block_length)
    shape = architecture.shape
    total = device_bytes(place)
    return MemoryPlan(
        shape=shape,
        dtype=dtype,
        params=params,
        batch_size=settings.batch_size,
        max_length=settings.engine.max_length or shape.max_length,
        max_positions=step_positions(settings.engine.max_positions, place),
        device_total=total // settings.workers if total else None,
        visibility=architecture.visibility,
        kv_positions=settings.engine.kv_positions,
        exact=place.type == "cpu" if settings.engine.exact is None else settings.engine.exact,
        mix=mix,
    )


def check_files(settings: ServeSettings) -> str:
    """Words on the model's files, of which no weight is read. Raises ValueError for what would not load."""
    model = settings.model
    return check_weights(model.source, model.path, model.base, **model.settings)
