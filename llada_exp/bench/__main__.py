"""`python -m llada_exp.bench [-m] [key=value ...]`: measure a server, at one setting or in a sweep."""

from __future__ import annotations

from functools import partial


def main() -> None:
    from llada_exp.bench.settings import bench_keys
    from llada_exp.bench.task import TASK
    from llada_exp.cli import run_app
    from llada_exp.decoding_keys import MOVED_OF_BENCH
    from llada_exp.runs.task import run

    run_app(partial(run, TASK), "bench", bench_keys(), MOVED_OF_BENCH)


if __name__ == "__main__":
    main()
