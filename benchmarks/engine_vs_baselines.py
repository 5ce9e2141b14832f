"""Our engine beside the published decoders, in one run, in turn, on one model.

    python -m benchmarks.engine_vs_baselines [--model random_31m] [--steps 32] [--repeats 5]

Mixed prompts of 16-200 tokens, 128 answer tokens in blocks of 32, the same steps for all. Prints
output tokens/s (median, spread) and the ratios asked of the engine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.baselines import fast_dllm, llada, lockstep_padded
from llada_exp.bench.engine import matmul_gflops, num_flops, prompts
from llada_exp.bench.models import MODELS, bench_model
from llada_exp.engine import Engine
from llada_exp.types import DecodingParams

GEN, BLOCK = 128, 32


def ours(model, batch: list[list[int]], rows: int, cache: str, steps: int) -> tuple[int, dict]:
    engine = Engine(model, batch_size=rows, max_length=max(map(len, batch)) + GEN)
    params = DecodingParams(max_tokens=GEN, block_length=BLOCK, steps=steps, cache=cache, ignore_eos=True)
    for prompt in batch:
        engine.add_request(prompt, params)
    while engine.has_work():
        engine.step()
    return len(batch) * GEN, engine.stats()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="random_31m")
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one-row-prompts", type=int, default=4, help="prompts of the one-row runs")
    options = parser.parse_args()
    device = torch.device("cpu")
    model = bench_model(options.model, device, torch.float32)
    batch = prompts("mixed", model.shape.vocab_size)
    few, steps = batch[: options.one_row_prompts], options.steps
    stats: dict[str, dict] = {}

    def baseline(decode: Callable[[list[int]], object]) -> Callable[[], int]:
        return lambda: sum(decode(p) is not None for p in few) * GEN

    def engine(name: str, some: list[list[int]], rows: int, cache: str) -> Callable[[], int]:
        def work() -> int:
            tokens, stats[name] = ours(model, some, rows, cache, steps)
            return tokens

        return work

    runs: dict[str, Callable[[], int]] = {
        "llada sampler, 1 row": baseline(lambda p: llada(model, p, GEN, BLOCK, steps)),
        "fast-dllm prefix, 1 row": baseline(lambda p: fast_dllm(model, p, GEN, BLOCK, steps, "prefix")),
        "fast-dllm dual, 1 row": baseline(lambda p: fast_dllm(model, p, GEN, BLOCK, steps, "dual")),
        "lockstep padded, 16 rows": lambda: len(lockstep_padded(model, batch, GEN, BLOCK, steps)[0]) * GEN,
        "ours dual, 1 row": engine("ours dual, 1 row", few, 1, "dual"),
        "ours dual, 16 rows": engine("ours dual, 16 rows", batch, 16, "dual"),
        "ours none, 16 rows": engine("ours none, 16 rows", batch, 16, "none"),
    }
    rates: dict[str, list[float]] = {name: [] for name in runs}
    mfu: dict[str, list[float]] = {name: [] for name in runs}
    peak = matmul_gflops(device, torch.float32)
    for repeat in range(-1, options.repeats):  # in turn, so that a drift hits all alike; -1 warms up
        peak = max(peak, matmul_gflops(device, torch.float32))
        for name, run in runs.items():
            start = time.perf_counter()
            tokens = run()
            seconds = time.perf_counter() - start
            if repeat >= 0:
                rates[name].append(tokens / seconds)
                if name in stats:
                    mfu[name].append(num_flops(model.shape, stats[name]) / seconds / 1e9)
    print(f"model={options.model} steps={steps} repeats={options.repeats} matmul={peak:.0f} GFLOP/s")
    for name, taken in rates.items():
        note = f"  MFU {statistics.median(mfu[name]) / peak:.2f}" if mfu[name] else ""
        if name in stats:
            note += f"  packed {stats[name]['packing_efficiency']:.3f}"
        print(f"{name:<26} {statistics.median(taken):8.1f} tok/s [{min(taken):.1f}, {max(taken):.1f}]{note}")
    median = {name: statistics.median(taken) for name, taken in rates.items()}
    for top, bottom in (
        ("fast-dllm dual, 1 row", "llada sampler, 1 row"),
        ("ours dual, 1 row", "fast-dllm dual, 1 row"),
        ("ours dual, 16 rows", "fast-dllm dual, 1 row"),
        ("ours dual, 16 rows", "ours dual, 1 row"),
        ("ours dual, 16 rows", "lockstep padded, 16 rows"),
    ):
        print(f"{top} / {bottom} = {median[top] / median[bottom]:.2f}")


if __name__ == "__main__":
    main()
