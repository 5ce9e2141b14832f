"""Our engine beside the published decoders, in one run, in turn, on one model.

    python -m benchmarks.engine_vs_baselines [--model random_31m] [--dtype bfloat16] [--steps 32]

Mixed prompts of 16-200 tokens, 128 answer tokens in blocks of 32, the same steps for all. Prints
output tokens/s (median, spread), the ratios asked of the engine, its MFU and how much of a step is
spent outside the network, and what exact batch invariance costs. `GOMP_SPINCOUNT` (libgomp) changes
all of them: threads that sleep at every barrier wake slowly on a quiet machine, threads that spin
starve each other on a shared one; the value at hand is printed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks.baselines import fast_dllm, llada, lockstep_padded
from llada_exp.bench.engine import matmul_gflops, num_flops, prompts
from llada_exp.bench.models import MODELS, plain_model
from llada_exp.engine import EngineCore
from llada_exp.engine.batch import Batch
from llada_exp.engine.decoder import Decoder
from llada_exp.models.base import Model
from llada_exp.programs import run_program
from llada_exp.types import DecodingParams

GEN, BLOCK = 128, 32


class Watched:
    """Counts the seconds that a decoder spends in the network itself, cache and attention included."""

    def __init__(self, decoder: Decoder) -> None:
        self.seconds = 0.0
        self._logits = decoder._logits
        decoder._logits = self  # type: ignore[method-assign]

    def __call__(self, batch: Batch) -> Tensor:
        start = time.perf_counter()
        logits = self._logits(batch)
        self.seconds += time.perf_counter() - start
        return logits


def ours(
    model: Model, batch: list[list[int]], rows: int, cache: str, steps: int, exact: bool = True
) -> tuple[int, dict]:
    """Tokens, and the engine's counters with `network_seconds` beside them."""
    engine = EngineCore(model, batch_size=rows, max_length=max(map(len, batch)) + GEN, exact=exact)
    network = Watched(engine.decoder)
    params = DecodingParams(max_tokens=GEN, block_length=BLOCK, steps=steps, cache=cache, ignore_eos=True)
    for prompt in batch:
        engine.add_request(prompt, params)
    while engine.has_work():
        engine.step()
    return len(batch) * GEN, {**engine.stats(), "network_seconds": network.seconds}


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--model", choices=MODELS, default="random_31m")
    p.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    p.add_argument("--steps", type=int, default=32)
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--one-row-prompts", type=int, default=2, help="prompts of the one-row runs")
    p.add_argument("--skip-slow", action="store_true", help="without the runs that have no cache")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    options = parser().parse_args(argv)
    steps, dtype, device = options.steps, getattr(torch, options.dtype), torch.device("cpu")
    architecture, plain, special = plain_model(options.model, device, dtype)
    model = architecture.ready(plain, special, release=False)
    batch = prompts("mixed", model.shape.vocab_size)
    few = batch[: options.one_row_prompts]
    stats: dict[str, dict] = {}

    def baseline(decode: Callable[[list[int]], object]) -> Callable[[], int]:
        return lambda: sum(decode(p) is not None for p in few) * GEN

    def engine(name: str, some: list[list[int]], *setting) -> Callable[[], int]:
        def work() -> int:
            tokens, stats[name] = ours(model, some, setting[0], setting[1], steps, *setting[2:])
            return tokens

        return work

    runs: dict[str, Callable[[], int]] = {
        "llada sampler, 1 row": baseline(lambda p: llada(plain, p, GEN, BLOCK, steps)),
        "fast-dllm prefix, 1 row": baseline(lambda p: fast_dllm(plain, p, GEN, BLOCK, steps, "prefix")),
        "fast-dllm dual, 1 row": baseline(lambda p: fast_dllm(plain, p, GEN, BLOCK, steps, "dual")),
        "ours dual, 1 row": engine("ours dual, 1 row", few, 1, "dual"),
        "ours dual, 16 rows": engine("ours dual, 16 rows", batch, 16, "dual"),
        "ours dual, 16 rows, not exact": engine("ours dual, 16 rows, not exact", batch, 16, "dual", False),
    }
    if not options.skip_slow:
        runs["ours none, 16 rows"] = engine("ours none, 16 rows", batch, 16, "none")
        runs["lockstep padded, 16 rows"] = lambda: (
            len(lockstep_padded(plain, batch, GEN, BLOCK, steps)[0]) * GEN
        )
    seconds, tokens, peak = measure(runs, options.repeats, lambda: matmul_gflops(device, dtype))
    spin = os.environ.get("GOMP_SPINCOUNT") or os.environ.get("OMP_WAIT_POLICY") or "libgomp's default"
    print(
        f"model={options.model} {options.dtype} steps={steps} repeats={options.repeats} "
        f"threads={torch.get_num_threads()} spinning={spin} matmul={peak:.0f} GFLOP/s"
    )

    def mfu(counters: dict) -> float:
        return num_flops(model.shape, counters) / 1e9 / peak

    for name, times in seconds.items():
        print(line(name, tokens[name], times, stats.get(name), mfu))
    print_ratios({name: tokens[name] / statistics.median(times) for name, times in seconds.items()})


def measure(
    runs: dict[str, Callable[[], int]], repeats: int, peak_of: Callable[[], float]
) -> tuple[dict[str, list[float]], dict[str, int], float]:
    """Seconds of every repeat, tokens, and the best matrix product seen."""
    seconds: dict[str, list[float]] = defaultdict(list)
    tokens, peak = {}, peak_of()
    for repeat in range(-1, repeats):  # in turn, so that a drift hits all alike; -1 warms up
        peak = max(peak, peak_of())
        for name, run in runs.items():
            if repeat < 0 and name.startswith("lockstep"):
                continue  # the slowest; its second run is warm enough beside the others
            start = time.perf_counter()
            tokens[name] = run()
            if repeat >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds, tokens, peak


def line(
    name: str, tokens: int, times: list[float], stats: dict | None, mfu_of: Callable[[dict], float]
) -> str:
    rates = [tokens / s for s in times]
    note = ""
    if stats is not None:
        note = (
            f"  MFU {mfu_of(stats) / statistics.median(times):.2f}  packed {stats['packing_efficiency']:.3f}"
            f"  outside the network {1 - stats['network_seconds'] / times[-1]:.1%}"
        )
    middle = f"{statistics.median(rates):8.1f} tok/s [{min(rates):.1f}, {max(rates):.1f}]"
    return f"{name:<30} {middle}{note}"


def print_ratios(median: dict[str, float]) -> None:
    for top, bottom in (
        ("fast-dllm dual, 1 row", "llada sampler, 1 row"),
        ("ours dual, 1 row", "fast-dllm dual, 1 row"),
        ("ours dual, 16 rows", "fast-dllm dual, 1 row"),
        ("ours dual, 16 rows", "ours dual, 1 row"),
        ("ours dual, 16 rows", "lockstep padded, 16 rows"),
        ("ours dual, 16 rows", "ours dual, 16 rows, not exact"),
    ):
        if top in median and bottom in median:
            print(f"{top} / {bottom} = {median[top] / median[bottom]:.2f}")


if __name__ == "__main__":
    run_program(main)
