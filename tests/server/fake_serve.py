"""`python -m tests.server.fake_serve [key=value ...]`: the real server around the fake engine."""

from typing import Any


def serve(cfg: Any) -> int:
    from llada_exp.jobs.endpoint import published
    from llada_exp.server.supervisor import run_server
    from llada_exp.settings import replicas_of, validate
    from tests.server.fakes import build

    return run_server(published(validate(cfg), replicas=replicas_of(cfg)), build)


def main() -> None:
    """Imports stay inside, as in llada_exp.serve: every process that is started imports this module again."""
    from llada_exp.cli import run_app
    from llada_exp.settings import serve_keys

    run_app(serve, "serve", serve_keys())


if __name__ == "__main__":
    main()
