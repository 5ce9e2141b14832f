"""`python -m llada_exp.serve [key=value ...]`: compose the configuration and run the server.

A thin entry point. Imports stay inside the functions: every worker process imports this module again.
"""

from __future__ import annotations

import sys
from typing import Any

PLAN, PRINT_CONFIG = "--plan", "--print-config"
MULTIRUN = ("-m", "--multirun")
AS_JOB = "place=job"


def serve(cfg: Any) -> int:
    """Run the server a composed config stands for, until it is told to stop; the exit code."""
    from omegaconf import OmegaConf

    from llada_exp.jobs.endpoint import published
    from llada_exp.settings import validate

    settings = published(validate(OmegaConf.to_container(cfg, resolve=True)))  # type: ignore[arg-type]

    from llada_exp.server.supervisor import run_server

    return run_server(settings)


def plan(cfg: Any) -> int:
    """Print the memory plan of a composed config, and start nothing. Exit code 1 where it does not fit."""
    from omegaconf import OmegaConf

    from llada_exp.engine.memory import table
    from llada_exp.server.processes.memory_plan import memory_plan
    from llada_exp.settings import validate

    own = memory_plan(validate(OmegaConf.to_container(cfg, resolve=True)))  # type: ignore[arg-type]
    print(table(own))
    return 0 if own.fits else 1


def print_config(cfg: Any) -> int:
    """Print a composed config once it is found valid, and start nothing."""
    from omegaconf import OmegaConf

    from llada_exp.settings import validate

    validate(OmegaConf.to_container(cfg, resolve=True))  # type: ignore[arg-type]
    print(OmegaConf.to_yaml(cfg, resolve=True), end="")
    return 0


def as_job(words: list[str]) -> list[str]:
    """The command line of a server that is launched to run elsewhere: it has to say where. What the user
    says comes later and holds."""
    first = next((i for i, word in enumerate(words) if "=" in word and not word.startswith("-")), len(words))
    return [*words[:first], AS_JOB, *words[first:]]


def main() -> None:
    from llada_exp.cli import run_app
    from llada_exp.decoding_keys import MOVED_OF_SERVER
    from llada_exp.jobs.operate import NotReady
    from llada_exp.settings import serve_keys

    tasks = {PLAN: plan, PRINT_CONFIG: print_config}
    wanted = [task for flag, task in tasks.items() if flag in sys.argv]
    sys.argv = [word for word in sys.argv if word not in tasks]
    if any(word in MULTIRUN for word in sys.argv):
        sys.argv = as_job(sys.argv)
    try:
        run_app(wanted[0] if wanted else serve, "serve", serve_keys(), MOVED_OF_SERVER)
    except NotReady as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
