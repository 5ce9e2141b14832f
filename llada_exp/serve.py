"""`python -m llada_exp.serve [key=value ...]`: compose the configuration and run the server.

A thin entry point. Imports stay inside the functions: every worker process imports this module again.
"""

from __future__ import annotations

import sys
from typing import Any

PLAN = "--plan"
MULTIRUN = ("-m", "--multirun")
AS_JOB = "place=job"
FILES = "files"


def serve(cfg: Any) -> int:
    """Run the server a composed config stands for, until a signal says to stop; the exit code."""
    from llada_exp.jobs.endpoint import published
    from llada_exp.settings import replicas_of, validate

    tree = _tree(cfg)  # before the slow import: a mistake is said at once
    settings = published(validate(tree), replicas=replicas_of(tree))

    from llada_exp.server.supervisor import run_server

    return run_server(settings)


def plan(cfg: Any) -> int:
    """Print the memory plan of a composed config, look through its weights, and start nothing. Exit code 1
    where it does not fit. Raises ValueError for weights that are missing or broken."""
    from llada_exp.engine.memory import table
    from llada_exp.server.processes.memory_plan import check_files, memory_plan
    from llada_exp.settings import mix_of, validate
    from llada_exp.tables import wrapped

    tree = _tree(cfg)
    settings = validate(tree)
    memory, files = memory_plan(settings, mix=mix_of(tree)), check_files(settings)
    print(f"{table(memory)}\n{wrapped(f'{FILES:<21}{files}', indent=' ' * 21)}")
    return 0 if memory.fits else 1


def _tree(cfg: Any) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(cfg, resolve=True)


def as_job(words: list[str]) -> list[str]:
    """The command line of a server that is launched to run elsewhere: it has to say where. What the user
    says comes later and holds."""
    first = next((i for i, word in enumerate(words) if "=" in word and not word.startswith("-")), len(words))
    return [*words[:first], AS_JOB, *words[first:]]


def main() -> None:
    from llada_exp.cli import USAGE_ERROR, run_app
    from llada_exp.decoding_keys import MOVED_OF_SERVER
    from llada_exp.jobs.operate import NotReady
    from llada_exp.settings import PLAN_KEYS, REPLICAS, serve_keys

    if "--print-config" in sys.argv:
        print("error: --print-config is now Hydra's own --cfg job --resolve", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    task = plan if PLAN in sys.argv else serve
    sys.argv = [word for word in sys.argv if word != PLAN]
    if any(word in MULTIRUN for word in sys.argv):
        sys.argv = as_job(sys.argv)
    try:
        run_app(task, "serve", (*serve_keys(), REPLICAS, *PLAN_KEYS), MOVED_OF_SERVER)
    except NotReady as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
