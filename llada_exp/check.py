"""`python -m llada_exp.check URL`: is this endpoint healthy, does it batch, and are its answers right?

Asks a running server over HTTP, as a client would: health, models, requests with different decoding
parameters at once, many requests at once, a stream. Prints what it found, with times measured here and
batch sizes taken from the server's own counters, and marks sums that were answered wrongly: the embedded
model knows them, so that its server has failed; of any other model they are told and not judged. What a
server does not say of itself is said to be unknown. Exit code 0: all is well; 1: something is not; 2: wrong
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
from llada_exp.clients.sums import CheckedAnswer, judge, question
from llada_exp.programs import run_program
from llada_exp.tables import wrapped

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


NAME_WIDTH = 12
NUM_SAMPLES = 3


class CheckedEndpoint:
    """url: with or without /v1; key: sent as a Bearer token."""

    def __init__(self, url: str, key: str | None, timeout_s: float, max_tokens: int) -> None:
        self.url = base_url(url)
        self.key = key
        self.timeout_s = timeout_s
        self.max_tokens = max_tokens
        self.model: str | None = None  # the first of /v1/models, once that was read

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
                return read_json(response, self.url + path, self.timeout_s)
            except RequestFailed as error:
                raise CheckFailed(f"{path} {error.reason}") from None

    def ask(self, number: int, **fields: Any) -> CheckedAnswer:
        """number: of the question."""
        began = time.monotonic()
        body = self.read(CHAT, self._request(question(number), fields))
        try:
            choice, tokens = body["choices"][0], int(body["usage"]["completion_tokens"])
            text = choice["message"]["content"] or ""
        except (KeyError, IndexError, TypeError, ValueError):
            raise CheckFailed(f"{CHAT} answers in another shape: {str(body)[:200]}") from None
        cut_off = choice.get("finish_reason") == "length"
        return CheckedAnswer(text, tokens, time.monotonic() - began, body, number, cut_off)

    def stream(self, question: str, **fields: Any) -> Iterator[dict[str, Any]]:
        """The events of a stream, [DONE] as {}."""
        with self.open(CHAT, self._request(question, fields | {"stream": True})) as answer:
            for line in answer:
                if line.startswith(b"data: "):
                    data = line[6:].strip()
                    try:
                        yield {} if data == b"[DONE]" else json.loads(data)
                    except ValueError:
                        raise CheckFailed(f"{CHAT} answers no JSON: {data[:80]!r}") from None

    def _request(self, question: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        messages = [{"role": "user", "content": question}]
        model = {} if self.model is None else {"model": self.model}
        return {**model, "messages": messages, "max_tokens": self.max_tokens, "seed": 0, **fields}


def check_health(endpoint: CheckedEndpoint) -> str:
    with endpoint.open("/health") as response:
        data = response.read()
    try:
        body = json.loads(data)
    except ValueError:  # other servers and routers: a word, or nothing
        return f"200, {data[:80].decode(errors='replace').strip() or 'without a word'}"
    if not isinstance(body, dict) or body.get("status") not in (None, "ready", "ok", "healthy"):
        raise CheckFailed(f"/health says {body}")
    words = " ".join(f"{name}={body[name]}" for name in ("status", "model", "device", "mode") if name in body)
    return words or "200"


def check_models(endpoint: CheckedEndpoint) -> str:
    body = endpoint.read("/v1/models")
    try:
        names = [str(model["id"]) for model in body["data"]]
    except (KeyError, TypeError):
        raise CheckFailed(f"/v1/models answers in another shape: {str(body)[:200]}") from None
    if not names:
        raise CheckFailed("/v1/models lists none")
    endpoint.model = names[0]
    return ", ".join(names)


def check_mixed(endpoint: CheckedEndpoint) -> str:
    """Each request must get its own parameters, whatever its neighbours asked for."""
    caches = _caches(endpoint)
    mixed = [fields for fields in MIXED if not caches or fields.get("cache", caches[0]) in caches]
    alone = [endpoint.ask(number, **fields) for number, fields in enumerate(mixed)]
    with ThreadPoolExecutor(len(mixed)) as pool:
        jobs = [pool.submit(endpoint.ask, number, **fields) for number, fields in enumerate(mixed)]
        together = [job.result() for job in jobs]
    same = f"{sum(a.text == b.text for a, b in zip(alone, together, strict=True))} texts the same as alone"
    decodings = [_decoding(answer) for answer in together]
    for fields, used in zip(mixed, decodings, strict=True):
        wrong = {name: used.get(name) for name, value in fields.items() if used.get(name) != value}
        if wrong:
            raise CheckFailed(f"asked for {fields}, the response names {wrong}")
    return f"{len(mixed)} decoding settings at once, each honoured; {same}"


def _decoding(answer: CheckedAnswer) -> Mapping[str, Any]:
    """What the server says that it used; empty where it does not."""
    about = answer.body.get("llada")
    used = about.get("decoding") if isinstance(about, dict) else None
    return used if isinstance(used, dict) else {}


def _caches(endpoint: CheckedEndpoint) -> Sequence[str]:
    """Those that the model decodes with, by the server's word; () where it gives none."""
    try:
        return next(iter(endpoint.read("/info")["workers"].values()))["caches"]
    except (CheckFailed, KeyError, TypeError, AttributeError, StopIteration):
        return ()


def check_concurrency(endpoint: CheckedEndpoint, count: int, answers: list[CheckedAnswer]) -> str:
    """answers: gets what was answered."""
    before = _histogram(endpoint)
    began = time.monotonic()
    with ThreadPoolExecutor(count) as pool:
        jobs = [pool.submit(endpoint.ask, i) for i in range(count)]
        answers += [job.result() for job in jobs]
    seconds = time.monotonic() - began
    latencies = sorted(a.seconds for a in answers)
    tokens = sum(a.tokens for a in answers)
    words = (
        f"{count} requests in {seconds:.3f} s: throughput {count / seconds:.2f} requests/s, "
        f"{tokens / seconds:.1f} tokens/s; latency mean {statistics.mean(latencies):.3f} s, "
        f"median {statistics.median(latencies):.3f} s, largest {latencies[-1]:.3f} s"
    )
    return f"{words}\n{'batching':<12}{_batching(before, _histogram(endpoint), count)}"


def check_stream(endpoint: CheckedEndpoint) -> str:
    began, first, pieces, ended = time.monotonic(), None, 0, False
    reasons = []
    for event in endpoint.stream(question(0)):
        if not isinstance(event, dict) or "error" in event:
            raise CheckFailed(f"the stream ends in {event['error'] if isinstance(event, dict) else event!r}")
        ended = not event
        for choice in event.get("choices") or ():
            if (choice.get("delta") or {}).get("content"):
                first = first or time.monotonic() - began
                pieces += 1
            reasons += [reason for reason in [choice.get("finish_reason")] if reason]
    if not ended or len(reasons) != 1 or first is None:
        raise CheckFailed(
            f"{pieces} pieces, finish reasons {reasons}, [DONE] {'came' if ended else 'missing'}"
        )
    return f"first text after {first:.3f} s, {pieces} pieces in {time.monotonic() - began:.3f} s"


def _is_embedded(endpoint: CheckedEndpoint) -> bool:
    try:
        return bool(endpoint.read("/info")["config"]["model"]["source"] == "tiny")
    except (CheckFailed, KeyError, TypeError):
        return False


def _histogram(endpoint: CheckedEndpoint) -> dict[int, int] | None:
    """Steps by batch size so far; None where the server does not count them, or a router may ask one server
    now and another one later."""
    try:
        if "instance_id" not in endpoint.read("/health"):
            return None
        histogram = endpoint.read("/batch/stats")["batch_size_histogram"]
        return {int(size): count for size, count in histogram.items()}
    except (CheckFailed, KeyError, TypeError, AttributeError):
        return None


def _batching(before: dict[int, int] | None, after: dict[int, int] | None, count: int) -> str:
    if before is None or after is None:
        return "not known: this server has no /batch/stats of its own"
    steps = {size: n - before.get(size, 0) for size, n in sorted(after.items()) if n > before.get(size, 0)}
    if not steps:
        raise CheckFailed("/batch/stats did not count one step")
    mean = sum(size * n for size, n in steps.items()) / sum(steps.values())
    if count > 1 and max(steps) == 1:
        raise CheckFailed("no step had more than 1 row: there was no batching")
    return f"{sum(steps.values())} steps, {mean:.1f} rows each on average, at most {max(steps)}"


def run(endpoint: CheckedEndpoint, concurrency: int) -> int:
    """Print one line for each check; the number of those that failed."""
    answers: list[CheckedAnswer] = []
    checks: dict[str, Callable[[], str]] = {
        "health": lambda: check_health(endpoint),
        "models": lambda: check_models(endpoint),
        "mixed": lambda: check_mixed(endpoint),
        "concurrency": lambda: check_concurrency(endpoint, concurrency, answers),
        "streaming": lambda: check_stream(endpoint),
    }
    failed = 0
    for name, check in checks.items():
        try:
            _print(name, check())
        except CheckFailed as error:
            failed += 1
            _print(name, f"FAILED: {error}")
    num_checks, wrong = len(checks), [answer for answer in answers if not answer.is_right]
    if answers:
        words, is_fault = judge(answers, _is_embedded(endpoint))
        failed, num_checks = failed + is_fault, num_checks + is_fault
        _print("answers", f"{'FAILED: ' if is_fault else ''}{words}")
    for answer in [*wrong[:NUM_SAMPLES], *(a for a in answers[:NUM_SAMPLES] if a.is_right)]:
        _print("sample", f"{question(answer.number)} -> {answer.text!r}{answer.mark()}")
    but = f"; {len(wrong)} of {len(answers)} sums are wrong: see answers" if wrong else ""
    _print("result", f"{'ok' if not failed else f'{failed} of {num_checks} checks failed'}{but}")
    return failed


def _print(name: str, text: str) -> None:
    print(wrapped(f"{name:<{NAME_WIDTH}}{text}", indent=" " * NAME_WIDTH), flush=True)


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
    endpoint = CheckedEndpoint(options.url, key or environment_key(), options.timeout, options.max_tokens)
    sys.exit(1 if run(endpoint, options.concurrency) else 0)


if __name__ == "__main__":
    run_program(main)
