"""`python -m llada_exp.evals [-m] [key=value ...]`: score a model on benchmarks, once or in a sweep."""

from __future__ import annotations

import sys


def main() -> None:
    from llada_exp.cli import run_app
    from llada_exp.evals.run import run_evaluation
    from llada_exp.evals.settings import MOVED, eval_keys

    try:
        run_app(run_evaluation, "eval", eval_keys(), MOVED)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
