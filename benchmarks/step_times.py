"""What one engine step takes on a device, by the tokens in it, and how much of that the device works.

    python -m benchmarks.step_times --model random_8b                     # a machine with CUDA
    python -m benchmarks.step_times --model tiny --device cpu --tokens 64 256

Two tables. By tokens: one pass over whole rows of up to 512 positions, without a cache. By rows: steps of
requests in flight (prompts of 16-200 tokens, 128 answer tokens, one token a step), with the kernels of a step
and the time that they take on the device, by torch's profiler (on a CPU: operations): what is missing to the
step's own time, the host took. Needs torch, transformers and safetensors alone.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Sequence

import torch
from torch.profiler import ProfilerActivity, profile

from llada_exp.bench.engine import prompts
from llada_exp.bench.models import MODELS, bench_model
from llada_exp.engine import EngineCore
from llada_exp.models.base import Model
from llada_exp.programs import run_program
from llada_exp.types import DecodingParams

ROW = 512  # positions


def started(model: Model, batch: Sequence[Sequence[int]], canvas: int, cache: str) -> EngineCore:
    """An engine with all of the batch in flight, past its first steps."""
    longest = max(map(len, batch)) + canvas
    engine = EngineCore(model, batch_size=len(batch), max_length=longest, max_positions=longest * len(batch))
    params = DecodingParams(max_tokens=canvas, steps=canvas, cache=cache, ignore_eos=True)
    for prompt in batch:
        engine.add_request(prompt, params)
    for _ in range(4):
        engine.step()
    return engine


def step_ms(engine: EngineCore, num_steps: int) -> list[float]:
    """Milliseconds of each step, the device's work included, sorted."""
    times = []
    for _ in range(num_steps):
        start = time.perf_counter()
        engine.step()
        _wait(engine.model.device)
        times.append(1e3 * (time.perf_counter() - start))
    return sorted(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def profiled(engine: EngineCore, num_steps: int) -> tuple[float, float]:
    """Kernels a step and their milliseconds on the device; operations and theirs, where it is the CPU."""
    cuda = engine.model.device.type == "cuda"
    kind = "CUDA" if cuda else "CPU"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as record:
        for _ in range(num_steps):
            engine.step()
        _wait(engine.model.device)
    events = [event for event in record.key_averages() if event.device_type.name == kind]
    times = (event.self_device_time_total if cuda else event.self_cpu_time_total for event in events)
    return sum(event.count for event in events) / num_steps, sum(times) / num_steps / 1e3


def by_tokens(model: Model, num_tokens: int, num_steps: int) -> str:
    num_rows, length = max(1, num_tokens // ROW), min(num_tokens, ROW)
    draw = random.Random(0)
    batch = [[draw.randrange(1, 64) for _ in range(length - 32)] for _ in range(num_rows)]
    times = step_ms(started(model, batch, 32, "none"), num_steps)
    return f"{num_tokens:>6} {num_rows:>5} {statistics.median(times):>8.1f} [{times[0]:.1f}, {times[-1]:.1f}]"


def by_rows(model: Model, num_rows: int, cache: str, num_steps: int) -> str:
    engine = started(model, prompts("mixed", model.shape.vocab_size)[:num_rows], 128, cache)
    times = step_ms(engine, num_steps)
    kernels, device_ms = profiled(engine, 4)
    median = statistics.median(times)
    return (
        f"{cache:<6} {num_rows:>5} {median:>8.1f} {f'[{times[0]:.1f}, {times[-1]:.1f}]':>16} {kernels:>8.0f} "
        f"{device_ms:>9.1f}"
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=MODELS, default="random_8b")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tokens", nargs="*", type=int, default=[64, 256, 512, 1024, 2048, 4096, 8192])
    parser.add_argument("--rows", nargs="*", type=int, default=[1, 4, 16])
    parser.add_argument("--caches", nargs="*", default=["dual", "none"])
    parser.add_argument("--steps", type=int, default=15, help="steps timed, 4 more to warm up")
    options = parser.parse_args(argv)
    device = torch.device(options.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = bench_model(options.model, device, dtype)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    print(f"{options.model} {str(dtype).removeprefix('torch.')} on {name}, torch {torch.__version__}")
    print(f"{'tokens':>6} {'rows':>5} {'ms':>8} [min, max]")
    for num_tokens in options.tokens:
        print(by_tokens(model, num_tokens, options.steps), flush=True)
    print(f"{'cache':<6} {'rows':>5} {'ms':>8} {'[min, max]':>16} {'kernels':>8} {'device ms':>9}")
    for cache in options.caches:
        for num_rows in options.rows:
            print(by_rows(model, num_rows, cache, options.steps), flush=True)


if __name__ == "__main__":
    run_program(main)
