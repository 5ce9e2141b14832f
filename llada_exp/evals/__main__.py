"""`python -m llada_exp.evals [-m] [key=value ...]`: score a model on benchmarks, once or in a sweep."""

from __future__ import annotations

from functools import partial


def main() -> None:
    from llada_exp.cli import run_app
    from llada_exp.evals.settings import MOVED, eval_keys
    from llada_exp.evals.task import TASK
    from llada_exp.runs.task import run

    run_app(partial(run, TASK), "eval", eval_keys(), MOVED)


if __name__ == "__main__":
    main()
