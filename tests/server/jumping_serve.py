"""`python -m tests.server.jumping_serve`: the fake server, whose wall clock jumps once a file is there.

In this process and in its workers `time.time` is LLADA_JUMP_DAYS off as soon as LLADA_JUMP_FLAG exists.
"""

import os
import time
from typing import Any

from llada_exp.cli import run_app
from llada_exp.server.processes.worker import Backend
from llada_exp.settings import ServeSettings, known_keys, validate
from tests.server import fakes

_real = time.time


def jumping() -> float:
    far = os.path.exists(os.environ["LLADA_JUMP_FLAG"])
    return _real() + far * float(os.environ["LLADA_JUMP_DAYS"]) * 86400


if time.time.__name__ != "jumping":  # this module is __main__ too
    time.time = jumping


def build(settings: ServeSettings, device: str) -> Backend:
    return fakes.build(settings, device)


def serve(cfg: Any) -> int:
    from llada_exp.server.supervisor import run_server
    from tests.server.jumping_serve import build as picklable

    return run_server(validate(cfg), picklable)


if __name__ == "__main__":
    run_app(serve, "serve", known_keys())
