"""The engine on a GPU, measured in one command of under eight minutes.

    python -m llada_exp.bench.gpu --out gpu.jsonl               # LLaDA-8B's shape, random bfloat16 weights
    python -m llada_exp.bench.gpu --out gpu.jsonl --small       # the embedded model, on any machine

Needs torch, transformers and safetensors alone; weights are made on the device. Appends one row (a JSON line)
a measurement, each written as soon as it is measured, the most telling ones first: a step by its rows and by
its tokens, whole answers, attention by backend, passes without a cache, drift against the exact path, and the
likelihood. What fails, by a want of memory or otherwise, is a row with its error.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from llada_exp.bench import gpu_measures as measures
from llada_exp.bench.gpu_kernels import BACKENDS, attention_rows
from llada_exp.bench.gpu_rows import GPURows
from llada_exp.bench.models import MODELS, bench_model
from llada_exp.engine.forward import CAPTURES
from llada_exp.programs import run_program

LONGEST = 30.0  # seconds of one measurement of answers


@dataclass(frozen=True)
class GPUSizes:
    """tokens: of steps over whole rows. block_rows: of block steps. rows: of answers, and of attention by
    `backends`. lengths: (prompt, canvas). passes: of each row without a cache. captures: of `EngineCore`,
    each for block steps and answers. drift, likelihood: as the measurements of those names take them."""

    tokens: tuple[int, ...] = tuple(measures.YARDSTICK_MS)
    rows: tuple[int, ...] = (1, 4, 16, 64)
    block_rows: tuple[int, ...] = (1, 2, 8, 16, 32, 64)
    lengths: tuple[tuple[int, int], ...] = ((150, 256), (950, 256))
    passes: int = 10
    captures: tuple[str | None, ...] = ("cuda_graph", "none")
    backends: tuple[str, ...] = tuple(BACKENDS)
    drift: tuple[int, int, int] = (16, 150, 64)
    likelihood: tuple[int, int, int, int] = (8, 150, 64, 32)


SMALL = GPUSizes(
    tokens=(64, 128),
    rows=(1, 2),
    block_rows=(1, 2),
    lengths=((12, 64), (24, 64)),
    passes=2,
    captures=(None,),
    backends=("sdpa_mask", "sdpa_no_mask", "varlen"),
    drift=(2, 12, 32),
    likelihood=(2, 12, 8, 4),
)


def measure(name: str, device: torch.device, sizes: GPUSizes, rows: GPURows) -> None:
    """Everything, in order, while there is time."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    rows.run("machine", partial(measures.machine, device, dtype))
    start = time.perf_counter()
    model = bench_model(name, device, dtype)
    rows.write("model", {"model": name, "seconds": time.perf_counter() - start})
    bench = measures.GPUBench(name, model, 1e3 * rows.rows[0].get("matmul_tflops", float("nan")))
    (prompt, canvas), *_ = sizes.lengths
    for count in sizes.block_rows:
        for capture in sizes.captures:
            step = partial(measures.steps, bench, "dual", count, prompt, canvas, capture=capture)
            rows.run("step", step)
    for tokens in sizes.tokens:
        rows.run("step", partial(measures.whole_rows, bench, tokens))
    for length in sizes.lengths[:1]:
        _answers(bench, rows, sizes, length)
    calls = [(count, 32, prompt + canvas) for count in sizes.rows]
    rows.run("attention", partial(attention_rows, model.shape, device, dtype, calls, sizes.backends))
    for length in sizes.lengths[1:]:
        _answers(bench, rows, sizes, length)
    rows.run("drift", partial(measures.drift, bench, *sizes.drift))
    rows.run("likelihood", partial(measures.likelihood, bench, *sizes.likelihood))
    if name != "tiny":
        rows.run("drift", partial(_trained_drift, device, sizes))


def _answers(bench: measures.GPUBench, rows: GPURows, sizes: GPUSizes, length: tuple[int, int]) -> None:
    for cache, passes in (("dual", None), ("none", sizes.passes)):
        captures = sizes.captures if cache == "dual" else sizes.captures[:1]
        for count, capture in itertools.product(sizes.rows, captures):
            call = partial(measures.answers, bench, count, *length, cache, passes, capture=capture)
            rows.run("answers", lambda call=call: call(min(LONGEST, rows.seconds_left)))  # type: ignore[misc]


def _trained_drift(device: torch.device, sizes: GPUSizes) -> measures.Iterator[measures.Row]:
    """Of the embedded model: random weights choose among near-equal logits, and exaggerate."""
    dtypes = (torch.float32, torch.bfloat16) if device.type == "cuda" else (torch.float32,)
    for dtype in dtypes:
        bench = measures.GPUBench("tiny", bench_model("tiny", device, dtype), float("nan"))
        yield from measures.drift(bench, *sizes.drift)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m llada_exp.bench.gpu", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("--out", type=Path, default=Path("gpu.jsonl"), help="rows are appended here")
    p.add_argument("--seconds", type=float, default=450.0, help="no measurement starts after so many")
    p.add_argument("--small", action="store_true", help="small shapes, of the embedded model")
    p.add_argument("--model", choices=MODELS, default=None, help="default random_8b, with --small tiny")
    p.add_argument("--captures", nargs="+", choices=CAPTURES, default=None, help="of steps; cuda_graph none")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return p


def main(argv: Sequence[str] | None = None) -> GPURows:
    options = parser().parse_args(argv)
    rows = GPURows(options.out, options.seconds)
    name = options.model or ("tiny" if options.small else "random_8b")
    sizes = SMALL if options.small else GPUSizes()
    sizes = replace(sizes, captures=tuple(options.captures or sizes.captures))
    measure(name, torch.device(options.device), sizes, rows)
    return rows


if __name__ == "__main__":
    run_program(lambda: 0 if main().rows else 1)
