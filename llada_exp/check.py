"""`python -m llada_exp.check URL`: is this endpoint healthy, and does it batch?

Asks a running server over HTTP, as a client would: health, models, requests with different decoding
parameters at once, many requests at once, a stream. Prints what it found, with times measured here and
batch sizes taken from the server's own counters. Exit code 0: all is well; 1: something is not; 2: wrong
arguments. Standard library only; knows nothing of the server's inside.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llada_exp.clients.http import (
    KEY_VARIABLE,
    RequestFailed,
    base_url,
    environment_key,
    open_url,
    read_json,
)

CHAT = "/v1/chat/completions"
MIXED: tuple[dict[str, Any], ...] = (
    {"steps": 16},
    {"threshold": 0.9},
    {"threshold": 0.6, "block_length": 16},
    {"threshold": 0.9, "cache": "dual"},
    {"steps": 32, "cache": "prefix"},
    {"threshold": 0.9, "temperature": 0.7, "top_p": 0.9},
)
"""Decoding parameters of the requests that are sent at once."""


class CheckFailed(Exception):
    """One check's finding; the others go on."""


@dataclass(frozen=True)
class CheckedAnswer:
    text: str
    tokens: int
    seconds: float
    body: Mapping[str, Any]


class CheckedEndpoint:
    """url: with or without /v1; key: sent as a Bearer token."""

    def __init__(self, url: str, key: str | None, timeout_s: float, max_tokens: int) -> None:
        self.url = base_url(url)
        self.key = key
        self.timeout_s = timeout_s
        self.max_tokens = max_tokens

    def open(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The open response. Raises CheckFailed with what the server said."""
        try:
            return open_url(self.url + path, key=self.key, body=body, timeout_s=self.timeout_s)
        except RequestFailed as error:
            raise CheckFailed(f"{path} {error.reason}") from None

    def read(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON of a whole response. Raises CheckFailed."""
        with self.open(path, body) as response:
            try:
                return read_json(response, self.url + path)
            except RequestFailed as error:
                raise CheckFailed(f"{path} {error.reason}") from None

    def ask(self, question: str, **fields: Any) -> CheckedAnswer:
        began = time.monotonic()
        body = self.read(CHAT, self._request(question, fields))
        try:
            text, tokens = body["choices"][0]["message"]["content"], body["usage"]["completion_tokens"]
        except (KeyError, IndexError, TypeError):
            raise CheckFailed(f"{CHAT} answers in another shape: {str(body)[:200]}") from None
        return CheckedAnswer(text, tokens, time.monotonic() - began, body)

    def stream(self, question: str, **fields: Any) -> Iterator[dict[str, Any]]:
        """The events of a stream, [DONE] as {}."""
        with self.open(CHAT, self._request(question, fields | {"stream": True})) as answer:
            for line in answer:
                if line.startswith(b"data: "):
                    data = line[6:].strip()
                    yield {} if data == b"[DONE]" else _read_json(CHAT, data)

    def _request(self, question: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        messages = [{"role": "user", "content": question}]
        return {"messages": messages, "max_tokens": self.max_tokens, "seed": 0, **fields}


def check_health(endpoint: CheckedEndpoint) -> str:
    body = endpoint.read("/health")
    if not isinstance(body, dict) or body.get("status") not in (None, "ready"):
        raise CheckFailed(f"/health says {body}")
    return " ".join(f"{name}={body[name]}" for name in ("status", "model", "device", "mode") if name in body)


def check_models(endpoint: CheckedEndpoint) -> str:
    names = [model["id"] for model in endpoint.read("/v1/models")["data"]]
    if not names:
        raise CheckFailed("/v1/models lists none")
    return ", ".join(names)


def check_mixed(endpoint: CheckedEndpoint) -> str:
    """Each request must get its own parameters, whatever its neighbours asked for."""
    caches = _caches(endpoint)
    mixed = [fields for fields in MIXED if not caches or fields.get("cache", caches[0]) in caches]
    questions = [question(i) for i in range(len(mixed))]
    alone = [endpoint.ask(q, **fields) for q, fields in zip(questions, mixed, strict=True)]
    with ThreadPoolExecutor(len(mixed)) as pool:
        jobs = [pool.submit(endpoint.ask, q, **fields) for q, fields in zip(questions, mixed, strict=True)]
        together = [job.result() for job in jobs]
    for fields, answer in zip(mixed, together, strict=True):
        used = answer.body.get("llada", {}).get("decoding", {})
        wrong = {name: used.get(name) for name, value in fields.items() if used.get(name) != value}
        if wrong:
            raise CheckFailed(f"asked for {fields}, the response names {wrong}")
    same = sum(a.text == b.text for a, b in zip(alone, together, strict=True))
    return f"{len(mixed)} decoding settings at once, each honoured; {same} texts the same as alone"


def _caches(endpoint: CheckedEndpoint) -> Sequence[str]:
    """Those that the model decodes with, by the server's word; () where it gives none."""
    try:
        return next(iter(endpoint.read("/info")["workers"].values()))["caches"]
    except (CheckFailed, KeyError, TypeError, AttributeError, StopIteration):
        return ()


def check_concurrency(endpoint: CheckedEndpoint, count: int) -> tuple[str, list[CheckedAnswer]]:
    before = _histogram(endpoint)
    began = time.monotonic()
    with ThreadPoolExecutor(count) as pool:
        jobs = [pool.submit(endpoint.ask, question(i)) for i in range(count)]
        answers = [job.result() for job in jobs]
    seconds = time.monotonic() - began
    latencies = sorted(a.seconds for a in answers)
    tokens = sum(a.tokens for a in answers)
    words = (
        f"{count} requests in {seconds:.3f} s: throughput {count / seconds:.2f} requests/s, "
        f"{tokens / seconds:.1f} tokens/s; latency mean {statistics.mean(latencies):.3f} s, "
        f"median {statistics.median(latencies):.3f} s, largest {latencies[-1]:.3f} s"
    )
    return f"{words}\n{'batching':<12}{_batching(before, _histogram(endpoint), count)}", answers


def check_stream(endpoint: CheckedEndpoint) -> str:
    began, first, pieces, ended = time.monotonic(), None, 0, False
    reasons = []
    for event in endpoint.stream(question(0)):
        if "error" in event:
            raise CheckFailed(f"the stream ends in {event['error']}")
        ended = not event
        for choice in event.get("choices", ()):
            if choice["delta"].get("content"):
                first = first or time.monotonic() - began
                pieces += 1
            reasons += [choice["finish_reason"]] * bool(choice["finish_reason"])
    if not ended or len(reasons) != 1 or first is None:
        raise CheckFailed(
            f"{pieces} pieces, finish reasons {reasons}, [DONE] {'came' if ended else 'missing'}"
        )
    return f"first text after {first:.3f} s, {pieces} pieces in {time.monotonic() - began:.3f} s"


def question(i: int) -> str:
    return f"What is {47 + 3 * i} + {8 + 5 * i}?"


def _histogram(endpoint: CheckedEndpoint) -> dict[int, int] | None:
    """Steps by batch size so far; None where the server does not count them."""
    try:
        histogram = endpoint.read("/batch/stats")["batch_size_histogram"]
        return {int(size): count for size, count in histogram.items()}
    except (CheckFailed, KeyError, TypeError, AttributeError):
        return None


def _batching(before: dict[int, int] | None, after: dict[int, int] | None, count: int) -> str:
    if before is None or after is None:
        return "not known: this server has no /batch/stats"
    steps = {size: n - before.get(size, 0) for size, n in sorted(after.items()) if n > before.get(size, 0)}
    if not steps:
        raise CheckFailed("/batch/stats did not count one step")
    mean = sum(size * n for size, n in steps.items()) / sum(steps.values())
    if count > 1 and max(steps) == 1:
        raise CheckFailed("no step had more than 1 row: there was no batching")
    return f"{sum(steps.values())} steps, {mean:.1f} rows each on average, at most {max(steps)}"


def _read_json(path: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise CheckFailed(f"{path} answers no JSON: {data[:80]!r}") from None


def run(endpoint: CheckedEndpoint, concurrency: int) -> int:
    """Print one line for each check; the number of those that failed."""
    answers: list[CheckedAnswer] = []

    def concurrent() -> str:
        words, received = check_concurrency(endpoint, concurrency)
        answers.extend(received)
        return words

    checks: dict[str, Callable[[], str]] = {
        "health": lambda: check_health(endpoint),
        "models": lambda: check_models(endpoint),
        "mixed": lambda: check_mixed(endpoint),
        "concurrency": concurrent,
        "streaming": lambda: check_stream(endpoint),
    }
    failed = 0
    for name, check in checks.items():
        try:
            print(f"{name:<12}{check()}", flush=True)
        except CheckFailed as error:
            failed += 1
            print(f"{name:<12}FAILED: {error}", flush=True)
    for i, answer in enumerate(answers[:3]):
        print(f"{'sample':<12}{question(i)} -> {answer.text!r}")
    print(f"{'result':<12}{'ok' if not failed else f'{failed} of {len(checks)} checks failed'}")
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m llada_exp.check",
        description="Check a running server, and measure whether it batches.",
    )
    parser.add_argument("url", help="of the server, with or without /v1")
    parser.add_argument("--concurrency", type=int, default=16, help="requests at once (%(default)s)")
    parser.add_argument("--max-tokens", type=int, default=64, help="of each answer (%(default)s)")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one answer (%(default)g)")
    parser.add_argument("--api-key-file", help=f"file with the key (else the environment's {KEY_VARIABLE})")
    options = parser.parse_args()
    if options.concurrency < 1 or options.max_tokens < 1:
        parser.error("--concurrency and --max-tokens must be at least 1")
    try:
        base_url(options.url)
    except ValueError as error:
        parser.error(str(error))
    try:
        key = Path(options.api_key_file).read_text().strip() if options.api_key_file else None
    except OSError as error:
        parser.error(f"--api-key-file: {error}")
    key = key or environment_key()
    sys.exit(
        1
        if run(CheckedEndpoint(options.url, key, options.timeout, options.max_tokens), options.concurrency)
        else 0
    )


if __name__ == "__main__":
    main()
