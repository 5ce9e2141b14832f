"""What a worker answers with: the configured model, and an engine for it. Runs in the worker."""

from __future__ import annotations

import os
from collections.abc import Callable

from llada_exp.server.processes.worker import Backend
from llada_exp.settings import ServeSettings
from llada_exp.types import CACHES, DecodingParams

Build = Callable[[ServeSettings, str], Backend]
"""(settings, device) -> what answers; runs in the worker, and must be picklable by name."""


def load_backend(settings: ServeSettings, device: str) -> Backend:
    """The configured model and an engine for it."""
    import torch

    from llada_exp.checkpoints import load_model
    from llada_exp.engine.engine import EngineCore
    from llada_exp.server.processes.memory_plan import memory_plan

    if device == "cpu" and settings.workers > 1:  # a share of the cores each, or they trip over one another
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // settings.workers))
    plan = memory_plan(settings, device)
    plan.check()
    model = settings.model
    loaded = load_model(
        source=model.source,
        path=model.path,
        base=model.base,
        device=device,
        dtype=settings.dtype,
        name=model.name,
        **model.settings,
    )
    try:
        engine = EngineCore(loaded.model, batch_size=settings.batch_size, **vars(settings.engine))
    except ValueError as error:
        raise ValueError(f"engine.{error}") from None
    try:  # a preset that this model rules out would refuse every request that names nothing
        engine.effective(settings.decoding)
    except ValueError as error:
        raise ValueError(f"decoding.{error}") from None
    engine.prepare()
    visibility = loaded.model.visibility
    about = {
        "family": loaded.family,
        "visibility": visibility.kind,
        "shift": loaded.model.shift,
        "device": str(loaded.model.device),
        "dtype": str(plan.dtype).removeprefix("torch."),
        "num_parameters": plan.shape.num_parameters,
        "num_active_parameters": plan.shape.num_active_parameters,
        "attention": engine.decoder.attention,
        "capture": engine.decoder.capture,
        "max_length": engine.max_length,
        "max_positions": engine.scheduler.max_positions,
        "max_prompt_bytes": loaded.tokenizer.max_bytes(engine.max_length),
        "block_length": engine.effective(DecodingParams()).block_length,
        "caches": [c for c in CACHES if engine.decodes(DecodingParams(cache=c))],
        "memory": {
            "weights": plan.weights,
            "kv_per_row": plan.kv_per_row,
            "kv": plan.kv_bytes(settings.batch_size),
            "largest_step": plan.activations,
            "total": plan.total(settings.batch_size),
            "device": plan.device_total,
        },
    }
    ends = tuple(loaded.model.special.ends)
    return Backend(engine, loaded.tokenizer, settings.server.max_prompt_tokens, ends, about)
