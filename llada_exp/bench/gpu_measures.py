"""The measurements of `llada_exp.bench.gpu`: each yields rows, the most telling first.

A step is timed on the host with the device's work included: a step ends with the transfer of its commits.
"""

from __future__ import annotations

import platform
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from llada_exp.bench.engine import matmul_gflops, num_flops
from llada_exp.engine import EngineCore
from llada_exp.engine.likelihood import Likelihood
from llada_exp.models.base import Model
from llada_exp.types import DecodingParams

ROW = 512  # positions of a row that is forwarded whole
WARM = 3  # steps before any is timed
YARDSTICK_MS = {64: 11.7, 256: 13.2, 512: 16.5, 1024: 29.0, 2048: 58.3, 4096: 126.0, 8192: 251.0}
"""LLaDA-8B in bfloat16 on one H100, milliseconds a step by its tokens, as TeDiServe's authors profile it."""

Row = dict[str, Any]


@dataclass
class GPUBench:
    """What all measurements share. name: of the model. gflops: of a large matrix product, measured once."""

    name: str
    model: Model
    gflops: float

    @property
    def device(self) -> torch.device:
        return self.model.device

    def prompts(self, count: int, length: int, seed: int = 0) -> list[list[int]]:
        draw, most = random.Random(seed), self.model.shape.vocab_size - 64
        return [[draw.randrange(max(2, most)) for _ in range(length)] for _ in range(count)]

    def engine(self, prompts: Sequence[Sequence[int]], params: DecodingParams, **options: Any) -> EngineCore:
        """With a request for each prompt, in rows as long as they need."""
        longest = max(map(len, prompts)) + params.max_tokens
        engine = EngineCore(self.model, batch_size=len(prompts), max_length=longest, **options)
        for prompt in prompts:
            engine.add_request(prompt, params)
        return engine

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def timed_step(self, engine: EngineCore) -> float:
        """Milliseconds."""
        start = time.perf_counter()
        engine.step()
        self.wait()
        return 1e3 * (time.perf_counter() - start)

    def reset_peak(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_mb(self) -> float | None:
        return torch.cuda.max_memory_allocated(self.device) / 2**20 if self.device.type == "cuda" else None

    def mfu(self, before: dict[str, Any], after: dict[str, Any], seconds: float) -> float:
        counted = {k: after[k] - before[k] for k in after if isinstance(after[k], int)}
        return num_flops(self.model.shape, counted) / seconds / 1e9 / self.gflops


def machine(device: torch.device, dtype: torch.dtype) -> Iterator[Row]:
    cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if cuda else platform.machine()
    yield {
        "device": name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "memory_mb": torch.cuda.get_device_properties(device).total_memory / 2**20 if cuda else None,
        "dtype": str(dtype).removeprefix("torch."),
        "matmul_tflops": matmul_gflops(device, dtype) / 1e3,
    }


def _spread(times: Sequence[float]) -> Row:
    return {"ms": statistics.median(times), "ms_min": min(times), "ms_max": max(times)}


def steps(
    bench: GPUBench,
    cache: str,
    rows: int,
    prompt: int,
    canvas: int,
    timed: int = 10,
    capture: str | None = None,
) -> Iterator[Row]:
    """Steps of rows in the middle of a block, all in each step, and what a profiler sees in them."""
    params = DecodingParams(max_tokens=canvas, steps=canvas, cache=cache, ignore_eos=True)
    prompts = bench.prompts(rows, prompt)
    engine = bench.engine(prompts, params, max_positions=rows * (prompt + canvas), capture=capture)
    for _ in range(WARM):
        engine.step()
    before = engine.stats()
    times = [bench.timed_step(engine) for _ in range(timed)]
    after = engine.stats()
    tokens = (after["num_tokens_forwarded"] - before["num_tokens_forwarded"]) // timed
    yield {
        "cache": cache,
        "rows": rows,
        "prompt": prompt,
        "canvas": canvas,
        "tokens": tokens,
        "attention": engine.decoder.attention,
        "capture": engine.decoder.capture,
        **_spread(times),
        "yardstick_ms": YARDSTICK_MS.get(tokens) if bench.name == "random_8b" else None,
        "mfu": bench.mfu(before, after, sum(times) / 1e3),
        **profiled(bench, engine),
    }


def profiled(bench: GPUBench, engine: EngineCore, num_steps: int = 3) -> Row:
    """Kernels of a step, their milliseconds on the device, and those that take most; operations on a CPU."""
    cuda = bench.device.type == "cuda"
    kind = "CUDA" if cuda else "CPU"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as record:
        for _ in range(num_steps):
            engine.step()
        bench.wait()
    events = [event for event in record.key_averages() if event.device_type.name == kind]

    def ms(event: Any) -> float:
        whole = event.self_device_time_total if cuda else event.self_cpu_time_total
        return float(whole) / 1e3 / num_steps

    largest = sorted(events, key=ms, reverse=True)[:6]
    return {
        "kernels": sum(event.count for event in events) / num_steps,
        "device_ms": sum(map(ms, events)),
        "largest": {
            event.key[:60]: [round(event.count / num_steps), round(ms(event), 3)] for event in largest
        },
    }


def whole_rows(bench: GPUBench, num_tokens: int, timed: int = 8) -> Iterator[Row]:
    """Steps of so many tokens in whole rows of up to ROW positions, beside the yardstick."""
    length = min(num_tokens, ROW)
    block = min(32, length // 2)
    yield from steps(bench, "none", max(1, num_tokens // ROW), length - block, block, timed)


def answers(
    bench: GPUBench,
    rows: int,
    prompt: int,
    canvas: int,
    cache: str,
    passes: int | None,
    seconds: float,
    capture: str | None = None,
) -> Iterator[Row]:
    """As many requests as rows, arriving at once, until they are done, or have had so many passes each, or
    the seconds are over: the row says how far it came."""
    params = DecodingParams(max_tokens=canvas, tokens_per_step=4, cache=cache, ignore_eos=True)
    bench.reset_peak()
    engine = bench.engine(bench.prompts(rows, prompt), params, capture=capture)
    start, times = time.perf_counter(), []
    before = engine.stats()
    while engine.has_work() and time.perf_counter() - start < seconds:
        if passes is not None and engine.stats()["num_nfe"] >= passes * rows:
            break
        times.append(bench.timed_step(engine))
    spent, stats = time.perf_counter() - start, engine.stats()
    yield {
        "cache": cache,
        "rows": rows,
        "prompt": prompt,
        "canvas": canvas,
        "capture": engine.decoder.capture,
        "passes_each": stats["num_nfe"] / rows,
        "whole": not engine.has_work(),
        "seconds": spent,
        "tokens_per_second": 4 * stats["num_nfe"] / spent,
        "mfu": bench.mfu(before, stats, spent),
        "useful_position_ratio": stats["useful_position_ratio"],
        "num_steps": stats["num_steps"],
        **{f"step_{key}": value for key, value in _spread(times).items()},
        "peak_mb": bench.peak_mb(),
    }


def drift(bench: GPUBench, rows: int, prompt: int, canvas: int) -> Iterator[Row]:
    """Answers of the device's path beside those of `exact`, and of a row alone beside itself in company."""
    params = DecodingParams(max_tokens=canvas, tokens_per_step=4, cache="dual", ignore_eos=True)
    prompts = bench.prompts(rows, prompt, seed=1)
    exact = _decoded(bench.engine(prompts, params, exact=True))
    together = _decoded(bench.engine(prompts, params, exact=False))
    alone = _decoded(bench.engine(prompts[:1], params, exact=False))
    yield {
        "model": bench.name,
        "dtype": str(bench.model.dtype).removeprefix("torch."),
        "rows": rows,
        "prompt": prompt,
        "canvas": canvas,
        "equal_answers": sum(a == b for a, b in zip(exact, together, strict=True)) / rows,
        "equal_ids": _equal_ids(exact, together),
        "alone_equal_ids": _equal_ids(together[:1], alone),
    }


def _decoded(engine: EngineCore) -> list[tuple[int, ...]]:
    outputs: dict[str, tuple[int, ...]] = {}
    while engine.has_work():
        outputs |= {p.request_id: p.output.token_ids for p in engine.step() if p.output}
    return [outputs[f"request-{i}"] for i in range(len(outputs))]


def _equal_ids(a: Sequence[tuple[int, ...]], b: Sequence[tuple[int, ...]]) -> float:
    pairs = [(x, y) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True)]
    return sum(x == y for x, y in pairs) / len(pairs)


def likelihood(bench: GPUBench, pairs: int, prompt: int, answer: int, samples: int) -> Iterator[Row]:
    """log p of random answers: positions forwarded a second, and the share of the matrix rate that is."""
    texts = zip(bench.prompts(pairs, prompt, 2), bench.prompts(pairs, answer, 3), strict=True)
    bench.reset_peak()
    estimator = Likelihood(bench.model, num_samples=samples)
    start = time.perf_counter()
    estimates = estimator.estimate(list(texts))
    bench.wait()
    spent = time.perf_counter() - start
    positions, passes = (sum(getattr(e, name) for e in estimates) for name in ("num_positions", "nfe"))
    counted = {
        "num_tokens_forwarded": positions,
        "num_attention_pairs": passes * (prompt + answer) ** 2,
        "num_logit_rows": passes * (answer + 1) // 2,
    }
    yield {
        "pairs": pairs,
        "prompt": prompt,
        "answer": answer,
        "samples": samples,
        "seconds": spent,
        "positions_per_second": positions / spent,
        "mfu": num_flops(bench.model.shape, counted) / spent / 1e9 / bench.gflops,
        "peak_mb": bench.peak_mb(),
    }
