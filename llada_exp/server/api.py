"""LitServe's API object: loads the model in a worker."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable

import litserve as ls

from llada_exp.server.log import set_up
from llada_exp.server.loop import EngineLoop, step_aside
from llada_exp.server.processes import exit_with
from llada_exp.server.shared import FAILED, READY, STARTING, Shared
from llada_exp.server.spec import OpenSpec
from llada_exp.server.worker import Backend
from llada_exp.settings import ServeSettings
from llada_exp.types import CACHES, DecodingParams

logger = logging.getLogger(__name__)

TURN_S = 0.1
SETUP_FAILED = 3
"""Exit code of a worker whose model does not load."""

Build = Callable[[ServeSettings, str], Backend]
"""(settings, device) -> what answers; runs in the worker, and must be picklable by name."""


def load_backend(settings: ServeSettings, device: str) -> Backend:
    """The configured model and an engine for it."""
    import torch

    from llada_exp.checkpoints import load_model
    from llada_exp.engine.engine import EngineCore
    from llada_exp.server.memory import memory_plan

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
    own = settings.engine
    engine = EngineCore(
        loaded.model,
        batch_size=settings.batch_size,
        max_positions=own.max_positions,
        max_length=own.max_length,
        scheduling=own.scheduling,
        exact=own.exact,
    )
    try:  # a preset that this model rules out would refuse every request that names nothing
        engine.effective(settings.decoding)
    except ValueError as error:
        raise ValueError(f"decoding.{error}") from None
    about = {
        "device": str(loaded.model.device),
        "dtype": str(plan.dtype).removeprefix("torch."),
        "num_parameters": plan.shape.num_parameters,
        "max_length": engine.max_length,
        "block_length": engine.effective(DecodingParams()).block_length,
        "caches": [c for c in CACHES if engine.decodes(DecodingParams(cache=c))],
        "memory": {
            "weights": plan.weights,
            "kv_per_row": plan.kv_per_row,
            "largest_step": plan.activations,
            "total": plan.total(settings.batch_size),
            "device": plan.device_total,
        },
    }
    return Backend(engine, loaded.tokenizer, settings.server.max_prompt_tokens, about)


class ModelAPI(ls.LitAPI):
    """backend: set in the worker by `setup`; the API process has none."""

    def __init__(self, settings: ServeSettings, build: Build = load_backend) -> None:
        loop = EngineLoop(settings.max_wait_time)
        super().__init__(max_batch_size=settings.batch_size, loop=loop, spec=OpenSpec(settings))
        self.settings = settings
        self.build = build
        self.shared: Shared | None = None
        self.server_pid = os.getpid()
        self.backend: Backend | None = None

    def setup(self, device: str) -> None:
        """In the worker: load the model. A failure is told to the main process, then ends the worker."""
        step_aside()
        exit_with(self.server_pid)
        set_up(self.settings.log_level)
        assert self.shared is not None
        worker_id = int(os.environ["LITSERVE_WORKER_ID"])
        self.shared.report(worker_id, state=STARTING)
        try:
            self._wait_turn(worker_id)
            self.backend = self.build(self.settings, device)
        except Exception as error:
            if not isinstance(error, ValueError | OSError):
                logger.exception("the model does not load")
            message = " ".join(str(error).split()) or type(error).__name__
            self.shared.report(worker_id, state=FAILED, error=message)
            sys.exit(SETUP_FAILED)  # past LitServe's handler, which would print a traceback
        self.shared.about[worker_id] = self.backend.about
        self.shared.report(worker_id, state=READY, engine=self.backend.engine.stats())

    def _wait_turn(self, worker_id: int) -> None:
        """Workers load one after another: together they would share the disk, and add up in memory what
        loading needs beside the model."""
        assert self.shared is not None
        waiting = True
        while waiting:  # a worker that has not spoken yet is starting
            states = dict(self.shared.states)
            waiting = any(states.get(i, {}).get("state", STARTING) == STARTING for i in range(worker_id))
            time.sleep(TURN_S * waiting)
