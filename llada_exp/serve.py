"""`python -m llada_exp.serve [key=value ...]`: compose the configuration and run the server.

A thin entry point. Imports stay inside the functions: every worker process imports this module again.
"""

from __future__ import annotations

from typing import Any


def serve(cfg: Any) -> int:
    """Run the server a composed config stands for, until it is told to stop; the exit code."""
    from omegaconf import OmegaConf

    from llada_exp.settings import validate

    settings = validate(OmegaConf.to_container(cfg, resolve=True))  # type: ignore[arg-type]

    from llada_exp.server.app import run_server

    return run_server(settings)


def main() -> None:
    from llada_exp.cli import run_app
    from llada_exp.settings import known_keys

    run_app(serve, "serve", known_keys())


if __name__ == "__main__":
    main()
