"""`python -m llada_exp.evals [-m] [key=value ...]`: score a model on benchmarks, once or in a sweep."""

from __future__ import annotations

import sys
from functools import partial


def main() -> None:
    from llada_exp.cli import run_app
    from llada_exp.evals.settings import MOVED, eval_keys
    from llada_exp.evals.task import EvalTask
    from llada_exp.runs.task import run

    try:
        run_app(partial(run, EvalTask()), "eval", eval_keys(), MOVED)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
