"""Soak a real server: thousands of requests, clients that leave, bodies that are wrong, workers killed.

    python -m benchmarks.soak --requests 10000 --concurrency 64

Every answer is compared with the same request's answer alone. Exit code 1 if a request was lost, hung
or answered wrongly, if a 5xx came that no kill explains, if memory grew, if anything was left over, or if
something of this was asked for and could not be judged.

A worker is killed once in every `--kill-every` requests, while it decodes; the next so many wait until it is
back, so that no kill is left out however fast the server is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Sequence
from typing import Any

import psutil

from benchmarks.client import Answer, post, send
from benchmarks.soak_verdict import Soak, judge, show
from llada_exp.clients.http import environment_key, get_json, health
from llada_exp.jobs import ServerHandle, running_server
from llada_exp.programs import run_program
from llada_exp.signals import run_in_loop

HUNG_S = 180.0
SAMPLE_S = 0.5
GATE_S = 0.01

DECODING: tuple[dict[str, Any], ...] = (
    {"threshold": 0.9},
    {"threshold": 0.7, "cache": "dual"},
    {"tokens_per_step": 4, "cache": "prefix"},
    {"threshold": 0.8, "temperature": 0.7},
    {"factor": 1.0, "n": 2},
)
MALFORMED: tuple[tuple[bytes, int], ...] = (
    # a body, and the status it must get
    (b"{", 400),
    (b"\xff\xfe", 400),
    (b"[]", 400),
    (b'{"messages": []}', 400),
    (b'{"messages": [{"role": "user", "content": 5}]}', 400),
    (b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}', 400),
    (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 1e99}', 400),
    (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 1000000}', 400),
    (b'{"messages": [{"role": "user", "content": "x"}], "stpes": 3}', 400),
    (b'{"messages": [{"role": "user", "content": "x"}], "model": "other"}', 404),
    (b'{"messages": [{"role": "user", "content": "' + b"long " * 20_000 + b'"}]}', 400),
    (b'{"messages": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400),
)


def bodies(count: int, seed: int) -> list[dict[str, Any]]:
    """Distinct requests of mixed decoding parameters, each with its seed."""
    draw = random.Random(seed)
    result = []
    for i in range(count):
        question = f"What is {draw.randint(2, 98)} {draw.choice('+-')} {draw.randint(2, 98)}?"
        body: dict[str, Any] = {"messages": [{"role": "user", "content": question}], "seed": i}
        body["max_tokens"] = draw.choice((16, 32, 48, 64))
        body |= draw.choice(DECODING)
        result.append(body)
    return result


async def one(url: str, body: dict[str, Any], expected: dict[int, str], soak: Soak) -> None:
    answer = await asyncio.wait_for(post(url, body), HUNG_S)
    if died(answer):
        soak.note("killed")
    elif answer.status != 200 or not answer.whole or not answer.body:
        soak.note("lost", f"status {answer.status}, whole {answer.whole}: {answer.body[-200:]!r}")
    elif answer.texts() != expected:
        soak.note("wrong", f"{body}: {answer.texts()} is not {expected}")
    elif body.get("stream") and answer.events()[-1] != "[DONE]":
        soak.note("lost", "a stream without [DONE]")
    else:
        soak.note("ok")


def died(answer: Answer) -> bool:
    """The error of a worker's death: a 503, or the last event of a stream that had begun."""
    return answer.whole and answer.status in (200, 503) and b"the worker that decoded" in answer.body


async def malformed(url: str, draw: random.Random, soak: Soak) -> None:
    body, status = draw.choice(MALFORMED)
    answer = await asyncio.wait_for(post(url, body), HUNG_S)
    if died(answer):
        soak.note("killed")
    elif answer.status == status and "message" in answer.json()["error"]:
        soak.note("refused")
    else:
        soak.note("lost", f"{body[:60]!r} got {answer.status}, not {status}: {answer.body[:200]!r}")


async def leaving(url: str, body: dict[str, Any], draw: random.Random, soak: Soak) -> None:
    """Hang up after a while, or after the first bytes, whichever the draw says."""
    reader, writer = await asyncio.wait_for(send(url, json.dumps(body).encode()), HUNG_S)
    try:
        if draw.random() < 0.5:
            await asyncio.sleep(draw.random() * 0.5)
        else:
            await asyncio.wait_for(reader.read(1), HUNG_S)
        soak.note("left")
    finally:
        writer.close()


async def client(
    url: str, work: Any, requests: list[tuple[dict, dict]], options: argparse.Namespace, soak: Soak
) -> None:
    """Take requests from `work` until there is none."""
    for number in work:
        while number >= soak.allowed:
            await asyncio.sleep(GATE_S)
        soak.num_begun += 1
        draw = random.Random(f"{options.seed}/{number}")
        body, expected = draw.choice(requests)
        body = {**body, "stream": draw.random() < 0.5}
        chance = draw.random()
        try:
            if chance < options.leaving:
                await leaving(url, body, draw, soak)
            elif chance < options.leaving + options.malformed:
                await malformed(url, draw, soak)
            else:
                await one(url, body, expected, soak)
        except TimeoutError:
            soak.note("hung", str(body))
        except (OSError, ValueError, KeyError) as error:
            soak.note("lost", f"{type(error).__name__}: {error}")


async def killer(server: ServerHandle, options: argparse.Namespace, soak: Soak) -> None:
    """Kill a worker once in every `kill_every` requests, and let the next ones pass when it is back."""
    draw, every = random.Random(options.seed), options.kill_every
    try:
        for number in range(soak.planned_kills):
            soak.allowed = (number + 1) * every
            while soak.num_begun < (number + draw.uniform(0.1, 0.6)) * every:
                await asyncio.sleep(GATE_S)
            os.kill(await busiest(server.url), signal.SIGKILL)
            soak.kills += 1
            killed = time.monotonic()
            state: str | None = "ready"
            while state == "ready" and time.monotonic() - killed < 2:
                state = (await asyncio.to_thread(health, server.url)).get("status")
            while state != "ready":
                if time.monotonic() - killed > HUNG_S:
                    raise TimeoutError(f"a killed worker was not back within {HUNG_S:g} s: {state}")
                await asyncio.sleep(0.1)
                state = (await asyncio.to_thread(health, server.url)).get("status")
            soak.ready_after_s.append(time.monotonic() - killed)
    finally:
        soak.allowed = options.requests


async def busiest(url: str, within_s: float = 5.0) -> int:
    """The process id of the worker with the most rows in flight, waited for until it has any."""
    until = time.monotonic() + within_s
    while True:
        ready = [w for w in await stats(url) if w["state"] == "ready"]
        worker = max(ready, key=lambda w: w["engine"].get("rows_in_flight", 0))
        if worker["engine"].get("rows_in_flight", 0) or time.monotonic() > until:
            return int(worker["pid"])
        await asyncio.sleep(GATE_S)


async def stats(url: str) -> list[dict[str, Any]]:
    return (await asyncio.to_thread(read_stats, url))["workers"]


def read_stats(url: str) -> dict[str, Any]:
    tree: dict[str, Any] = get_json(f"{url}/batch/stats", key=environment_key(), timeout_s=HUNG_S)
    return tree


async def sampler(server: ServerHandle, soak: Soak) -> None:
    """Resident memory of the server's processes, by what they are."""
    while True:
        workers = {w["pid"] for w in await stats(server.url)}
        root = psutil.Process(server.pid)
        for process in [root, *root.children(recursive=True)]:
            kind = "server" if process.pid == root.pid else "worker" if process.pid in workers else "other"
            try:
                rss = process.memory_info().rss / 2**20
            except psutil.NoSuchProcess:
                continue
            soak.memory.setdefault((kind, process.pid), []).append(rss)
        await asyncio.sleep(SAMPLE_S)


async def load(server: ServerHandle, options: argparse.Namespace) -> Soak:
    planned = options.requests // options.kill_every if options.kill_every else 0
    soak = Soak(planned_kills=planned, allowed=options.requests)
    requests = []
    for body in bodies(options.distinct, options.seed):
        alone = await post(server.url, body)
        if alone.status != 200:
            raise ValueError(f"{body} alone got {alone.status}: {alone.body[:200]!r}")
        requests.append((body, alone.texts()))
    work = iter(range(options.requests))
    beside = [asyncio.create_task(sampler(server, soak))]
    if planned:
        soak.allowed = 0
        beside.append(asyncio.create_task(killer(server, options, soak)))
    start = time.monotonic()
    clients = [client(server.url, work, requests, options, soak) for _ in range(options.concurrency)]
    progress = asyncio.create_task(report(soak, options.requests))
    await asyncio.gather(*clients)
    soak.seconds = time.monotonic() - start
    if planned:
        await asyncio.wait(beside[1:], timeout=HUNG_S)
    for task in (*beside, progress):
        task.cancel()
    ended = await asyncio.gather(*beside, progress, return_exceptions=True)
    soak.complaints += [
        repr(e) for e in ended if isinstance(e, Exception) and not isinstance(e, asyncio.CancelledError)
    ]
    return soak


async def report(soak: Soak, total: int) -> None:
    while True:
        await asyncio.sleep(30)
        print(
            f"{sum(soak.outcomes.values())} of {total}: {dict(soak.outcomes)}, {soak.kills} kills", flush=True
        )


def leftovers(url: str, within_s: float = 30.0) -> str:
    """What is still held when everybody is gone; "" where nothing is."""
    until = time.monotonic() + within_s
    while True:
        now = read_stats(url)
        counts = now["requests"]
        open_jobs = now["pending_requests"] + now["currently_processing"] + now["response_buffers"]
        rows = sum(w["engine"].get("rows_in_flight", 0) for w in now["workers"])
        missing = counts["submitted"] - counts["completed"] - counts["failed"] - counts["cancelled"]
        if not (open_jobs or rows or missing):
            return ""
        if time.monotonic() > until:
            return f"{open_jobs} open jobs or buffers, {rows} rows, {missing} jobs without an outcome"
        time.sleep(0.2)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=(__doc__ or "").split("\n\n")[0]
    )
    p.add_argument("--requests", type=int, default=10_000)
    p.add_argument("--concurrency", type=int, default=64)
    p.add_argument("--leaving", type=float, default=0.20, help="share of clients that hang up")
    p.add_argument("--malformed", type=float, default=0.05, help="share of bodies that are wrong")
    p.add_argument("--kill-every", type=int, default=1000, help="requests for each killed worker; 0 = none")
    p.add_argument("--no-memory", action="store_true", help="do not judge memory, as a short soak cannot")
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--batch-size", type=int, default=16)
    p.add_argument("--distinct", type=int, default=40, help="different requests, whose answers are known")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("overrides", nargs="*", help="of the server, as key=value; the tiny model by default")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    overrides = [f"workers={options.workers}", f"batch_size={options.batch_size}", *options.overrides]
    with running_server(overrides) as server:
        soak = run_in_loop(load(server, options))
        left = leftovers(server.url)
    show(soak)
    wrong = judge(soak, options) + ([f"left over: {left}"] if left else [])
    print("\n".join(f"FAILED: {w}" for w in wrong) or "passed", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    run_program(main)
