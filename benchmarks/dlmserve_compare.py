"""Ours through HTTP beside dlmserve 0.1.1, on the same random 31M checkpoint in bfloat16, in one run.

    python3 -m venv ENV && ENV/bin/pip install torch==2.13.0 dlmserve==0.1.1
    python -m benchmarks.dlmserve_compare --python ENV/bin/python

Both get the same chat prompts from 16 clients, 128 tokens in 32 steps, greedy; both run on the same
cores, one at work while the other is idle. Ours is asked for its own best setting (`--cache`) and for
dlmserve's: no cache, one block. Prints output tokens a second and ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.client import post
from benchmarks.random_checkpoint import write
from llada_exp.clients.http import health
from llada_exp.jobs import running_server, stop
from llada_exp.programs import run_program
from llada_exp.signals import run_in_loop

LAUNCHER = Path(__file__).with_name("dlmserve_launcher.py")


@contextmanager
def dlmserve(python: str, folder: Path, clients: int) -> Iterator[str]:
    """dlmserve on a free port; its URL once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    env = {**os.environ, "DLMSERVE_MODEL": str(folder), "DLMSERVE_DTYPE": "bf16", "DLMSERVE_DEVICE": "cpu",
           "DLMSERVE_MAX_BATCH": str(clients), "TOKENIZERS_PARALLELISM": "false"}  # fmt: skip
    env.pop("PYTHONPATH", None)
    log = folder.with_name("dlmserve.log")
    with log.open("w") as out:
        command = [python, str(LAUNCHER), str(port)]
        process = subprocess.Popen(command, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        until = time.monotonic() + 120
        while not health(url):
            if process.poll() is not None or time.monotonic() > until:
                raise ValueError(f"dlmserve does not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield url
    finally:
        stop(process, 20)


def questions(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(str(draw.randrange(10**6)) for _ in range(draw.randint(2, 20))) for _ in range(count)]


async def run(url: str, texts: Sequence[str], body: dict[str, Any], tokens: int) -> float:
    """All clients at once; output tokens a second. The canvas is fixed, so tokens are what was asked."""
    start = time.perf_counter()
    bodies = [{"messages": [{"role": "user", "content": text}], **body} for text in texts]
    answers = await asyncio.gather(*[post(url, body) for body in bodies])
    seconds = time.perf_counter() - start
    for answer in answers:
        if answer.status != 200:
            raise ValueError(f"{url} answered {answer.status}: {answer.body[:300]!r}")
    return len(texts) * tokens / seconds


def settings(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, Any]]:
    shared = {"model": str(folder), "max_tokens": options.gen, "temperature": 0.0}
    whole = {"suffix_window": options.gen}  # the server's preset looks less far
    ours = {**shared, "steps": options.steps, "ignore_eos": True, "seed": 0, **whole}
    theirs = {**shared, "num_denoising_steps": options.steps, "block_length": options.block}
    return {
        "dlmserve": theirs,
        f"ours, cache {options.cache}": {**ours, "cache": options.cache, "block_length": options.block},
        "ours, no cache": {**ours, "cache": "none", "block_length": options.block},
    }


def main(argv: Sequence[str] | None = None) -> None:
    about = (__doc__ or "").split("\n\n")[0]
    p = argparse.ArgumentParser(prog="python -m benchmarks.dlmserve_compare", description=about)
    p.add_argument("--python", required=True, help="of an environment with dlmserve==0.1.1")
    p.add_argument("--clients", type=int, default=16)
    p.add_argument("--gen", type=int, default=128)
    p.add_argument("--steps", type=int, default=32)
    p.add_argument("--block", type=int, default=32, help="block length, for both")
    p.add_argument("--cache", choices=("prefix", "dual"), default="dual")
    p.add_argument("--repeats", type=int, default=3)
    options = p.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "random_31m"
        write(folder, "random_31m", torch.bfloat16)
        overrides = ["model=hf", f"model.path={folder}", "dtype=bfloat16", f"batch_size={options.clients}"]
        with dlmserve(options.python, folder, options.clients) as theirs, running_server(overrides) as ours:
            rates: dict[str, list[float]] = {name: [] for name in settings(options, folder)}
            for repeat in range(-1, options.repeats):  # in turn, so that a drift hits all; -1 warms up
                for name, body in settings(options, folder).items():
                    url = theirs if name == "dlmserve" else ours.url
                    texts = questions(options.clients, repeat)
                    rate = run_in_loop(run(url, texts, body, options.gen))
                    if repeat >= 0:
                        rates[name].append(rate)
    print(f"random_31m bfloat16, {options.clients} clients, {options.gen} tokens in {options.steps} steps, "
          f"blocks of {options.block}, {options.repeats} repeats")  # fmt: skip
    for name, speeds in rates.items():
        ratio = [ours / base for ours, base in zip(speeds, rates["dlmserve"], strict=True)]
        print(f"{name:<18} {statistics.median(speeds):8.1f} tokens/s [{min(speeds):.1f}, {max(speeds):.1f}]  "
              f"{statistics.median(ratio):.2f} x dlmserve")  # fmt: skip


if __name__ == "__main__":
    run_program(main)
