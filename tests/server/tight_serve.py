"""`python -m tests.server.tight_serve`: the real server and engine on a device with room for few rows.

LLADA_TIGHT_ROWS: more of them in one pass raise torch.OutOfMemoryError.
"""

import os
from typing import Any

from llada_exp.cli import run_app
from llada_exp.server.processes.worker import Backend
from llada_exp.settings import ServeSettings, known_keys, validate


def build(settings: ServeSettings, device: str) -> Backend:
    import torch

    from llada_exp.server.processes.backend import load_backend

    backend = load_backend(settings, device)
    decoder = backend.engine.decoder  # type: ignore[attr-defined]
    run, room = decoder.run, int(os.environ["LLADA_TIGHT_ROWS"])

    def tight(requests: list[Any]) -> Any:
        if len(requests) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return run(requests)

    decoder.run = tight
    return backend


def serve(cfg: Any) -> int:
    from llada_exp.server.supervisor import run_server
    from tests.server.tight_serve import build as picklable  # not __main__'s: workers load it by name

    return run_server(validate(cfg), picklable)


if __name__ == "__main__":
    run_app(serve, "serve", known_keys())
