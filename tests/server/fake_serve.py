"""`python -m tests.server.fake_serve [key=value ...]`: the real server around the fake engine."""

from typing import Any

from llada_exp.cli import run_app
from llada_exp.jobs.endpoint import published
from llada_exp.settings import replicas_of, serve_keys, validate


def serve(cfg: Any) -> int:
    from llada_exp.server.supervisor import run_server
    from tests.server.fakes import build

    return run_server(published(validate(cfg), replicas=replicas_of(cfg)), build)


if __name__ == "__main__":
    run_app(serve, "serve", serve_keys())
