"""How well the engine mixes: requests that come all at once, beside the same ones spread over time.

    python -m llada_exp.bench.engine_arrivals --models tiny random_31m

At once, the rows begin together and could refresh together, in steps much longer than the others. Spread,
one request comes every so many steps, as many as keep the rows busy, so that their refreshes lie apart by
themselves. Both in turn, in one run. Of the columns: useful_% is the share of computed positions where a
token was looked for, step_ms the median step, p95_ms that of which one in twenty is longer, CPU_s the
processor's seconds of a repeat.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from llada_exp.bench.engine import prompts
from llada_exp.bench.models import MODELS, bench_model
from llada_exp.engine import EngineCore
from llada_exp.models.base import Model
from llada_exp.programs import run_program
from llada_exp.tables import Table, TableColumn
from llada_exp.types import DecodingParams

CANVAS = 128


@dataclass(frozen=True)
class Mixed:
    """One repeat. step_ms: of every step; cpu_seconds: of all threads."""

    model: str
    arrival: str
    tokens: int
    seconds: float
    cpu_seconds: float
    useful_position_ratio: float
    step_ms: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Tokens/s."""
        return self.tokens / self.seconds

    @property
    def p95_ms(self) -> float:
        return statistics.quantiles(self.step_ms, n=20, method="inclusive")[-1]


def run(model: Model, name: str, every: int, options: argparse.Namespace) -> Mixed:
    """every: steps between two arrivals, 0: all come at once."""
    jobs = [
        ids
        for seed in range(-(-options.requests // 16))
        for ids in prompts("mixed", model.shape.vocab_size, seed)
    ]
    jobs = jobs[: options.requests]
    params = DecodingParams(
        max_tokens=CANVAS,
        tokens_per_step=options.tokens_per_step,
        cache=options.cache,
        ignore_eos=True,
        seed=0,
    )
    engine = EngineCore(
        model,
        batch_size=options.batch_size,
        max_length=max(map(len, jobs)) + CANVAS,
        max_positions=options.max_positions,
    )
    step_ms: list[float] = []
    tokens = 0
    start, cpu = time.perf_counter(), time.process_time()
    while jobs or engine.has_work():
        while jobs and (not every or not len(step_ms) % every):
            engine.add_request(jobs.pop(0), params)
            if every:
                break
        before = time.perf_counter()
        tokens += sum(len(item.output.token_ids) for item in engine.step() if item.output is not None)
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        step_ms.append(1000 * (time.perf_counter() - before))
    return Mixed(
        model=name,
        arrival=f"one in {every} steps" if every else "at once",
        tokens=tokens,
        seconds=time.perf_counter() - start,
        cpu_seconds=time.process_time() - cpu,
        useful_position_ratio=engine.stats()["useful_position_ratio"],
        step_ms=tuple(step_ms),
    )


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _spread(rows: Sequence[Mixed]) -> str:
    rates = [row.rate for row in rows]
    return f"[{min(rates):.1f}, {max(rates):.1f}]"


COLUMNS = (
    TableColumn("model", lambda rows: rows[0].model, left=True),
    TableColumn("arrival", lambda rows: rows[0].arrival, left=True),
    TableColumn("tok/s", lambda rows: f"{_median([r.rate for r in rows]):.1f}"),
    TableColumn("tok/s [min, max]", _spread, rank=2),
    TableColumn("CPU_s", lambda rows: f"{_median([r.cpu_seconds for r in rows]):.2f}", rank=1),
    TableColumn("useful_%", lambda rows: f"{100 * rows[0].useful_position_ratio:.1f}"),
    TableColumn("steps", lambda rows: str(len(rows[0].step_ms)), rank=3),
    TableColumn("step_ms", lambda rows: f"{_median([_median(r.step_ms) for r in rows]):.1f}"),
    TableColumn("p95_ms", lambda rows: f"{_median([r.p95_ms for r in rows]):.1f}"),
)
"""Of the repeats of one arrival; medians where they differ."""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m llada_exp.bench.engine_arrivals", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("--models", nargs="+", choices=MODELS, default=["tiny", "random_31m"])
    p.add_argument("--requests", type=int, default=64)
    p.add_argument("--batch-size", type=int, default=16)
    p.add_argument("--tokens-per-step", type=int, default=4)
    p.add_argument("--cache", choices=("none", "prefix", "dual"), default="dual")
    p.add_argument("--max-positions", type=int, default=None, help="forwarded in one step")
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--dtype", choices=("float32", "bfloat16"), default=None)
    return p


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """By model: throughput at once over that of spread arrivals, the median over repeats."""
    options = parser().parse_args(argv)
    device = torch.device(options.device)
    dtype = getattr(torch, options.dtype or ("bfloat16" if device.type == "cuda" else "float32"))
    passes = -(-CANVAS // options.tokens_per_step)
    ratios: dict[str, float] = {}
    for name in options.models:
        model = bench_model(name, device, dtype)
        pairs: list[tuple[Mixed, Mixed]] = []
        for repeat in range(-1, options.repeats):  # in turn, so that a drift hits both; -1 warms up
            pair = [run(model, name, every, options) for every in (0, max(1, passes // options.batch_size))]
            if repeat >= 0:
                pairs.append((pair[0], pair[1]))
        Table(COLUMNS, [list(rows) for rows in zip(*pairs, strict=True)]).show()
        walls = sorted(a.rate / b.rate for a, b in pairs)
        cpu = sorted(b.cpu_seconds / a.cpu_seconds for a, b in pairs)
        for words, values in (("throughput", walls), ("tokens per CPU second", cpu)):
            spread = f"{_median(values):.2f} [{values[0]:.2f}, {values[-1]:.2f}]"
            print(f"{name}: {words}, at once / spread = {spread}", flush=True)
        ratios[name] = _median(walls)
        del model
    return ratios


if __name__ == "__main__":
    run_program(lambda: int(not main()))
