"""The engine alone, without a server: what a decoding setting costs on a model and a device.

    python -m llada_exp.bench.engine --models random_31m --caches none prefix dual --batch-sizes 1 16

Runs on a machine with torch, transformers and safetensors alone. Work is the same for every
setting and for random weights: a fixed number of tokens per step, end ids ignored. Prints a table as
wide as the terminal, and appends every repeat as a row to --rows (jsonl), beside which the whole table
stands (.txt). Of the columns: NFE is of all requests together, pos/tok the positions that were
computed for an output token, useful_% the share of them where a token was looked for, packed_% of those
that are no padding, MFU_% that of the device's own rate in a large matrix product.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from llada_exp.bench.models import MODELS, bench_model
from llada_exp.bench.ops import ops_table
from llada_exp.decoding import DecodingError, resolve
from llada_exp.engine import EngineCore
from llada_exp.engine.effective import effective
from llada_exp.engine.request import FindStop
from llada_exp.models.base import Model, ModelShape
from llada_exp.programs import run_program
from llada_exp.tables import Table, TableColumn
from llada_exp.types import CACHES, DecodingParams

WORKLOADS = {  # prompts, shortest and longest prompt, answer tokens, answer tokens that are used
    "mixed": (16, 16, 200, 128, 128),
    "gsm8k_like": (16, 950, 950, 256, 256),
    "short_answer": (16, 16, 64, 1024, 32),
    "short_answer_128": (16, 16, 64, 128, 32),
}


@dataclass(frozen=True)
class EngineRow:
    """One repeat of one setting. mfu: achieved FLOP/s over that of a large matrix product measured
    in the same run. Null where not measurable."""

    model: str
    device: str
    dtype: str
    workload: str
    cache: str
    batch_size: int
    tokens_per_step: int
    scheduling: str
    repeat: int
    seconds: float
    output_tokens: int
    output_throughput: float
    nfe: int
    num_steps: int
    positions_per_token: float
    useful_position_ratio: float
    packing_efficiency: float
    matmul_gflops: float
    mfu: float
    peak_memory_mb: float | None
    torch_version: str


def prompts(workload: str, vocab: int, seed: int = 0) -> list[list[int]]:
    """Token ids by seed; the same for every setting."""
    count, low, high, _, _ = WORKLOADS[workload]
    draw = random.Random(f"{workload} {seed}")
    return [[draw.randrange(vocab - 64) for _ in range(draw.randint(low, high))] for _ in range(count)]


def num_flops(shape: ModelShape, stats: dict[str, int]) -> float:
    """Multiply-adds counted twice: layers per token, attention per pair, head per wanted position. The
    last layer's output and MLP are computed at wanted positions only, and counted so; of experts those that
    a token passes, without their router."""
    d, width = shape.d_model, shape.n_heads * shape.head_dim
    qkv = d * (width + 2 * shape.n_kv_heads * shape.head_dim)
    *rests, last = [width * d + 3 * d * shape.mlp_width(layer) for layer in range(shape.n_layers)]
    return 2.0 * (
        (sum(rests) + shape.n_layers * qkv) * stats["num_tokens_forwarded"]
        + 2 * width * shape.n_layers * stats["num_attention_pairs"]
        + (last + d * shape.vocab_size) * stats["num_logit_rows"]
    )


def matmul_gflops(device: torch.device, dtype: torch.dtype) -> float:
    """The best of a few large square products: this device's rate, now."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(6):
        seconds = _timed(lambda: a @ b, device)
        best = max(best, 2 * size**3 / seconds / 1e9)
    return best


def _timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of `work`, the device's own included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def decode(
    engine: EngineCore, batch: Sequence[Sequence[int]], params: DecodingParams, find_stop: FindStop
) -> tuple[int, int]:
    """Run every prompt; (output tokens, NFE summed over requests)."""
    for prompt in batch:
        engine.add_request(prompt, params, find_stop=find_stop)
    tokens = nfe = 0
    while engine.has_work():
        for item in engine.step():
            if item.output is not None:
                tokens += len(item.output.token_ids)
                nfe += item.output.nfe
    return tokens, nfe


def setting_params(canvas: int, cache: str, options: argparse.Namespace) -> DecodingParams:
    """Raises ValueError for options that contradict each other."""
    fields = {
        "max_tokens": canvas,
        "tokens_per_step": options.tokens_per_step,
        "cache": cache,
        "ignore_eos": True,
        "suffix_window": options.suffix_window,
    }
    return resolve(fields, DecodingParams()).params


def is_decoded(model: Model, cache: str, options: argparse.Namespace) -> bool:
    """Whether the model's visibility allows the cache; if not, why is printed."""
    try:
        effective(setting_params(1, cache, options), model)
    except DecodingError as error:
        print(error, flush=True)
        return False
    return True


def run_setting(
    model: Model, name: str, setting: tuple[str, str, int], options: argparse.Namespace, repeat: int
) -> EngineRow:
    """One timed repeat of (workload, cache, batch size)."""
    workload, cache, batch_size = setting
    device = model.device
    _, _, _, canvas, used = WORKLOADS[workload]
    batch = prompts(workload, model.shape.vocab_size)
    batch = batch[: max(1, min(len(batch), batch_size if options.fill else len(batch)))]
    params = setting_params(canvas, cache, options)

    def stops(ids: Sequence[int]) -> int | None:
        return used if len(ids) >= used else None

    longest = max(map(len, batch)) + canvas
    if model.visibility.anchored:  # rows of whole blocks
        longest += -longest % model.visibility.blocks_of(None)
    engine = EngineCore(model, batch_size=batch_size, max_length=longest, scheduling=options.scheduling)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    counts: list[tuple[int, int]] = []
    seconds = _timed(lambda: counts.append(decode(engine, batch, params, stops)), device)
    rate = matmul_gflops(device, model.dtype)
    stats, (tokens, nfe) = engine.stats(), counts[0]
    return EngineRow(
        model=name,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        dtype=str(model.dtype).removeprefix("torch."),
        workload=workload,
        cache=cache,
        batch_size=batch_size,
        tokens_per_step=options.tokens_per_step,
        scheduling=options.scheduling,
        repeat=repeat,
        seconds=seconds,
        output_tokens=tokens,
        output_throughput=tokens / seconds,
        nfe=nfe,
        num_steps=stats["num_steps"],
        positions_per_token=stats["num_positions"] / tokens,
        useful_position_ratio=stats["useful_position_ratio"],
        packing_efficiency=stats["packing_efficiency"],
        matmul_gflops=rate,
        mfu=num_flops(model.shape, stats) / seconds / 1e9 / rate,
        peak_memory_mb=torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None,
        torch_version=torch.__version__,
    )


def _median(name: str) -> Callable[[Sequence[EngineRow]], float]:
    return lambda rows: statistics.median(getattr(row, name) for row in rows)


def _spread(rows: Sequence[EngineRow]) -> str:
    rates = [row.output_throughput for row in rows]
    return f"[{min(rates):.1f}, {max(rates):.1f}]"


def _memory(rows: Sequence[EngineRow]) -> str | None:
    megabytes = rows[0].peak_memory_mb
    return None if megabytes is None else f"{megabytes:.0f}"


COLUMNS = (
    TableColumn("model", lambda rows: rows[0].model, left=True),
    TableColumn("workload", lambda rows: rows[0].workload, left=True),
    TableColumn("cache", lambda rows: rows[0].cache, left=True),
    TableColumn("rows", lambda rows: str(rows[0].batch_size)),
    TableColumn("tok/s", lambda rows: f"{_median('output_throughput')(rows):.1f}"),
    TableColumn("tok/s [min, max]", _spread, rank=1),
    TableColumn("NFE", lambda rows: str(rows[0].nfe), rank=2),
    TableColumn("pos/tok", lambda rows: f"{rows[0].positions_per_token:.1f}", rank=3),
    TableColumn("useful_%", lambda rows: f"{100 * rows[0].useful_position_ratio:.1f}", rank=5),
    TableColumn("packed_%", lambda rows: f"{100 * rows[0].packing_efficiency:.1f}", rank=6),
    TableColumn("MFU_%", lambda rows: f"{100 * _median('mfu')(rows):.1f}", rank=4),
    TableColumn("peak_MiB", _memory, rank=7),
)
"""Of the repeats of one setting; medians where they differ."""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m llada_exp.bench.engine", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("--models", nargs="+", choices=MODELS, default=["tiny", "random_31m"])
    p.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=["mixed"])
    p.add_argument("--caches", nargs="+", choices=CACHES, default=["none", "prefix", "dual"])
    p.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 16])
    p.add_argument("--tokens-per-step", type=int, default=4)
    p.add_argument("--suffix-window", type=int, default=None)
    p.add_argument("--scheduling", choices=("continuous", "lockstep"), default="continuous")
    p.add_argument("--fill", action="store_true", help="only as many prompts as rows: one wave")
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--dtype", choices=("float32", "bfloat16"), default=None)
    p.add_argument("--rows", type=Path, default=None, help="append every repeat here, as jsonl")
    p.add_argument("--count-ops", action="store_true", help="operations of a step, in the place of its speed")
    return p


def main(argv: Sequence[str] | None = None) -> list[EngineRow] | None:
    """Every repeat's row; none is there where no model allows a cache. None: operations were counted."""
    options = parser().parse_args(argv)
    device = torch.device(options.device)
    dtype = getattr(torch, options.dtype or ("bfloat16" if device.type == "cuda" else "float32"))
    results: list[EngineRow] = []
    whole: list[list[EngineRow]] = []
    for name in options.models:
        model = bench_model(name, device, dtype)
        if options.count_ops:
            print(ops_table(model, name, options.batch_sizes), flush=True)
            continue
        caches = [cache for cache in options.caches if is_decoded(model, cache, options)]
        settings = [(w, c, b) for w in options.workloads for c in caches for b in options.batch_sizes]
        repeats: dict[tuple[str, str, int], list[EngineRow]] = {s: [] for s in settings}
        for repeat in range(-1, options.repeats):  # in turn, so that a drift hits all alike; -1 warms up
            for setting in settings:
                row = run_setting(model, name, setting, options, repeat)
                if repeat >= 0:
                    repeats[setting].append(row)
                    _append(options.rows, row)
        whole += repeats.values()
        Table(COLUMNS, list(repeats.values())).show(table_file(options.rows), whole)
        results += [row for rows in repeats.values() for row in rows]
        del model
    return None if options.count_ops else results


def table_file(rows: Path | None) -> Path | None:
    """Where the whole table stands, beside the rows."""
    if rows is None:
        return None
    return rows.with_suffix(".txt") if rows.suffix == ".jsonl" else Path(f"{rows}.txt")


def _append(path: Path | None, row: EngineRow) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")


if __name__ == "__main__":
    run_program(lambda: int(main() == []))
