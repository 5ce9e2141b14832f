"""What HTTP and scheduling add: the same work by the engine alone and through the server, in turn.

    python -m benchmarks.server_overhead --model random_31m

The same prompts, tokens per step and batch size on both sides; engine and server in separate
processes, one at work while the other is idle. The client shares the machine: its CPU seconds are
measured and printed, for on few cores they are part of what the server side takes.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.client import post
from llada_exp.jobs import running_server
from llada_exp.programs import run_program
from llada_exp.signals import run_in_loop
from llada_exp.types import DecodingParams

MODELS = ("tiny", "random_31m")


def prompts(count: int, seed: int = 0) -> list[list[int]]:
    """Token ids below the tiny tokenizer's special ones."""
    draw = random.Random(seed)
    return [[draw.randrange(500) for _ in range(draw.randint(16, 200))] for _ in range(count)]


def engine_process(pipe: Any, source: dict[str, Any], batch_size: int, work: Any) -> None:
    """In its own process, as a server's worker is: seconds of every run that is asked for."""
    from llada_exp.checkpoints import load_model
    from llada_exp.engine import EngineCore

    batch, params = work
    model = load_model(dtype="float32", **source).model
    pipe.send("ready")
    while pipe.recv():
        engine = EngineCore(model, batch_size=batch_size)
        start, tokens = time.perf_counter(), 0
        for prompt in batch:
            engine.add_request(prompt, params)
        while engine.has_work():
            tokens += sum(len(p.output.token_ids) for p in engine.step() if p.output is not None)
        pipe.send((time.perf_counter() - start, tokens))


async def through_server(url: str, batch: Sequence[Sequence[int]], body: dict[str, Any]) -> int:
    """All prompts at once; the output tokens."""
    answers = await asyncio.gather(
        *[post(url, {"prompt": prompt, **body}, "/v1/completions") for prompt in batch]
    )
    return sum(answer.json()["usage"]["completion_tokens"] for answer in answers)


def measure(options: argparse.Namespace) -> None:
    batch = prompts(options.requests)
    fixed = {"max_tokens": options.max_tokens, "tokens_per_step": options.tokens_per_step,
             "cache": options.cache, "ignore_eos": True}  # fmt: skip
    with ExitStack() as stack:
        source: dict[str, Any] = {}
        overrides = [f"batch_size={options.batch_size}", "dtype=float32", f"max_wait_time={options.max_wait}"]
        if options.model != "tiny":
            import torch

            from benchmarks.random_checkpoint import write

            folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / options.model
            write(folder, options.model, torch.float32)
            source = {"source": "hf", "path": str(folder)}
            overrides += ["model=hf", f"model.path={folder}"]
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the server's workers have it
        context = multiprocessing.get_context("spawn")
        pipe, far = context.Pipe()
        params = DecodingParams(seed=0, **fixed)
        engine = context.Process(
            target=engine_process, args=(far, source, options.batch_size, (batch, params)), daemon=True
        )
        engine.start()
        stack.callback(engine.kill)
        assert pipe.recv() == "ready"
        server = stack.enter_context(running_server(overrides))
        alone: list[float] = []
        served: list[float] = []
        client_cpu: list[float] = []
        for repeat in range(-1, options.repeats):  # in turn, so that a drift hits both; -1 warms up
            pipe.send(True)
            seconds, expected = pipe.recv()
            start, cpu = time.perf_counter(), time.process_time()
            tokens = run_in_loop(through_server(server.url, batch, {"seed": 0, **fixed}))
            wall, cpu = time.perf_counter() - start, time.process_time() - cpu
            assert tokens == expected, f"{tokens} tokens through the server, {expected} by the engine"
            if repeat >= 0:
                alone.append(seconds)
                served.append(wall)
                client_cpu.append(cpu)
    show(options, expected, alone, served, client_cpu)


def show(
    options: argparse.Namespace, tokens: int, alone: list[float], served: list[float], client: list[float]
) -> None:
    print(f"model={options.model} requests={options.requests} batch_size={options.batch_size} "
          f"cache={options.cache} tokens={tokens} repeats={options.repeats}")  # fmt: skip
    for name, times in (("engine alone", alone), ("through HTTP", served), ("client's CPU", client)):
        print(f"{name:<14} median {statistics.median(times):7.3f} s [{min(times):.3f}, {max(times):.3f}]")
    ratios = [s / a - 1 for s, a in zip(served, alone, strict=True)]
    net = [(s - c) / a - 1 for s, a, c in zip(served, alone, client, strict=True)]
    print(f"HTTP and scheduling add median {statistics.median(ratios):+.1%} "
          f"[{min(ratios):+.1%}, {max(ratios):+.1%}]")  # fmt: skip
    print(f"less the client's CPU {statistics.median(net):+.1%} [{min(net):+.1%}, {max(net):+.1%}]")


def main(argv: Sequence[str] | None = None) -> None:
    about = (__doc__ or "").split("\n\n")[0]
    p = argparse.ArgumentParser(prog="python -m benchmarks.server_overhead", description=about)
    p.add_argument("--model", choices=MODELS, default="random_31m")
    p.add_argument("--requests", type=int, default=32)
    p.add_argument("--batch-size", type=int, default=16)
    p.add_argument("--max-tokens", type=int, default=128)
    p.add_argument("--tokens-per-step", type=int, default=4)
    p.add_argument("--cache", choices=("none", "prefix", "dual"), default="dual")
    p.add_argument("--max-wait", type=float, default=0.01, help="the server's max_wait_time")
    p.add_argument("--repeats", type=int, default=5)
    measure(p.parse_args(argv))


if __name__ == "__main__":
    run_program(main)
