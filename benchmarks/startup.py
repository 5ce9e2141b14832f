"""From the command to an answered request: how long the tiny server takes to start, imports included.

python -m benchmarks.startup --repeats 5
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

from benchmarks.client import post
from llada_exp.jobs import running_server
from llada_exp.programs import run_program
from llada_exp.signals import run_in_loop


def once(overrides: Sequence[str]) -> tuple[float, float]:
    """Seconds until the server says it is ready, and until its first answer is there."""
    start = time.perf_counter()
    with running_server(overrides) as server:
        ready = time.perf_counter() - start
        body = {"messages": [{"role": "user", "content": "What is 47 + 8?"}], "max_tokens": 16}
        answer = run_in_loop(post(server.url, body))
        assert answer.status == 200, answer.body
        return ready, time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> None:
    about = (__doc__ or "").split("\n\n")[0]
    p = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=about)
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("overrides", nargs="*", help="of the server, as key=value")
    options = p.parse_args(argv)
    times = [once(options.overrides) for _ in range(options.repeats)]
    for name, values in zip(("ready", "first answer"), zip(*times, strict=True), strict=True):
        print(f"{name:<13} median {statistics.median(values):5.2f} s [{min(values):.2f}, {max(values):.2f}]")


if __name__ == "__main__":
    run_program(main)
