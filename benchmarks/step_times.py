"""What one engine step takes on a device, by the tokens in it, and how much of that the device works.

    python -m benchmarks.step_times --model random_8b                     # a machine with CUDA
    python -m benchmarks.step_times --model tiny --device cpu --tokens 64 256
    python -m benchmarks.step_times --model random_31m --device cpu --tokens --rows 16 --operations 9

Three tables. By tokens: one pass over whole rows of up to 512 positions, without a cache. By rows: steps of
requests in flight (prompts of 16-200 tokens, 128 answer tokens, one token a step), with the kernels of a step
and the time that they take on the device, by torch's profiler (on a CPU: operations): what is missing to the
step's own time, the host took. By operation, where asked: which of them take that time, and at what share of
the best matrix product of this run. Needs torch, transformers and safetensors alone.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

from llada_exp.bench.engine import matmul_gflops, num_flops, prompts
from llada_exp.bench.models import MODELS, bench_model
from llada_exp.engine import EngineCore
from llada_exp.models.base import Model
from llada_exp.programs import run_program
from llada_exp.types import DecodingParams

ROW = 512  # positions
_COUNTERS = ("num_tokens_forwarded", "num_attention_pairs", "num_logit_rows")
# What the operations of a CPU that multiply, and that attend, have in their names.
_NAMES = {
    "products": ("linear_pointwise", "aten::mm", "aten::addmm"),
    "attention": ("attention", "aten::bmm"),
}


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


@dataclass(frozen=True)
class Operation:
    """A kernel, or on a CPU an operation: how often it runs in a step, and its milliseconds there."""

    name: str
    count: float
    ms: float


def profiled(engine: EngineCore, num_steps: int) -> list[Operation]:
    """What a step runs on the device, what takes longest first."""
    cuda = engine.model.device.type == "cuda"
    kind = "CUDA" if cuda else "CPU"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as record:
        for _ in range(num_steps):
            engine.step()
        _wait(engine.model.device)
    operations = [
        Operation(
            event.key,
            event.count / num_steps,
            (event.self_device_time_total if cuda else event.self_cpu_time_total) / num_steps / 1e3,
        )
        for event in record.key_averages()
        if event.device_type.name == kind
    ]
    return sorted(operations, key=lambda operation: -operation.ms)


def by_tokens(model: Model, num_tokens: int, num_steps: int) -> str:
    num_rows, length = max(1, num_tokens // ROW), min(num_tokens, ROW)
    draw = random.Random(0)
    batch = [[draw.randrange(1, 64) for _ in range(length - 32)] for _ in range(num_rows)]
    times = step_ms(started(model, batch, 32, "none"), num_steps)
    return f"{num_tokens:>6} {num_rows:>5} {statistics.median(times):>8.1f} [{times[0]:.1f}, {times[-1]:.1f}]"


def by_rows(model: Model, num_rows: int, cache: str, num_steps: int) -> str:
    engine = started(model, prompts("mixed", model.shape.vocab_size)[:num_rows], 128, cache)
    times = step_ms(engine, num_steps)
    operations = profiled(engine, 4)
    kernels, device_ms = (sum(getattr(o, of) for o in operations) for of in ("count", "ms"))
    median = statistics.median(times)
    return (
        f"{cache:<6} {num_rows:>5} {median:>8.1f} {f'[{times[0]:.1f}, {times[-1]:.1f}]':>16} {kernels:>8.0f} "
        f"{device_ms:>9.1f}"
    )


def by_operation(model: Model, num_rows: int, cache: str, num_steps: int, num_shown: int) -> list[str]:
    """What takes longest in a step, and at what rate products and attention run."""
    peak = matmul_gflops(model.device, model.dtype)
    engine = started(model, prompts("mixed", model.shape.vocab_size)[:num_rows], 128, cache)
    before = engine.stats()
    operations = profiled(engine, num_steps)
    counts = {name: engine.stats()[name] - before[name] for name in _COUNTERS}
    peak = max(peak, matmul_gflops(model.device, model.dtype))
    total = sum(operation.ms for operation in operations)
    lines = [f"{cache}, {num_rows} rows, {total:.1f} ms a step; the best matrix product: {peak:.0f} GFLOP/s"]
    lines += [
        f"{o.name[:48]:<48} {o.count:>6.0f} {o.ms:>9.2f} {o.ms / total:>6.1%}" for o in operations[:num_shown]
    ]
    pairs = {"num_attention_pairs": counts["num_attention_pairs"]}
    nothing = dict.fromkeys(_COUNTERS, 0)
    for kind, part in (
        ("products", {**counts, "num_attention_pairs": 0}),
        ("attention", {**nothing, **pairs}),
    ):
        ms = sum(o.ms for o in operations if any(word in o.name for word in _NAMES[kind]))
        if ms > 0:
            rate = num_flops(model.shape, part) / num_steps / ms / 1e6
            lines.append(f"{kind}: {rate:.0f} GFLOP/s, {rate / peak:.2f} of the best product")
    return lines


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
    parser.add_argument(
        "--operations", type=int, default=0, help="rows of a third table for each of the second"
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="bfloat16 on CUDA, else float32")
    options = parser.parse_args(argv)
    device = torch.device(options.device)
    dtype = getattr(torch, options.dtype or ("bfloat16" if device.type == "cuda" else "float32"))
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
    for cache in options.caches if options.operations else ():
        for num_rows in options.rows:
            print(
                *by_operation(model, num_rows, cache, options.steps, options.operations), sep="\n", flush=True
            )


if __name__ == "__main__":
    run_program(main)
