"""Sends the load and times what comes back: closed loop, open loop, streamed or whole.

One event loop, one record per request. How late the generator itself was is recorded too, for a late
generator makes latencies lie. Knows HTTP and OpenAI's protocol; knows no rows and no server of ours.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import aiohttp

from llada_exp.bench.arrivals import arrivals
from llada_exp.bench.settings import Load
from llada_exp.bench.workload import Prompt
from llada_exp.clients.http import environment_key
from llada_exp.clients.reply import (
    ReadReply,
    check_no_error,
    choices_of,
    llada_of,
    reason_of,
    text_of,
    tokens_of,
)
from llada_exp.clients.session import new_session
from llada_exp.scoring import Scorer, decide_response
from llada_exp.signals import run_in_loop

TICK_S = 0.01
BROKEN_S = 0.2
"""A client waits so long after a connection that broke: a killed server's connections break some milliseconds
before its process is seen to have ended, and one that is away refuses thousands a second."""
MAX_ERROR = 300


@dataclass
class RequestRecord:
    """One request. Times in seconds from the load's start, durations in ms; None where not measurable:
    ttft, tpot and itl without streaming, tokens without the server's usage. correct: None also while only
    mathematics can tell (`judge`)."""

    index: int
    scheduled_s: float
    sent_s: float = 0.0
    ended_s: float = 0.0
    ok: bool = False
    status: int | None = None
    error: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    e2el_ms: float | None = None
    itl_ms: list[float] = field(default_factory=list)
    expected: str | None = None
    correct: bool | None = None
    prompt: str = ""
    text: str = ""
    cost: Mapping[str, Any] = field(default_factory=dict)
    decoding: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lag_ms(self) -> float:
        """How much later than planned the request was sent."""
        return 1000 * (self.sent_s - self.scheduled_s)


@dataclass
class LoadResult:
    """duration: seconds from the start to the last answer; loop_lag_ms: how late the client's own timer
    fired, sampled all the while."""

    records: list[RequestRecord]
    duration: float
    loop_lag_ms: list[float]


def run_load(
    url: str,
    prompts: Iterator[Prompt],
    load: Load,
    request: Mapping[str, Any],
    seed: int,
    done: Callable[[RequestRecord], None] = lambda record: None,
    gone: Callable[[], object] = lambda: None,
) -> LoadResult:
    """Run one load to its end. done: called with each finished record, as it finishes; gone: asked before
    each request: whether the server's process ended, so that sending more is of no use.

    A request that fails is a record that says so; only Ctrl-C and the like end the load early.
    """
    return run_in_loop(_Run(url, load, request, seed, done, gone).all(prompts))


class _Run:
    def __init__(
        self,
        url: str,
        load: Load,
        request: Mapping[str, Any],
        seed: int,
        done: Callable[[RequestRecord], None],
        gone: Callable[[], object],
    ) -> None:
        self.gone = gone
        self.url = url
        self.load = load
        self.request = request
        self.seed = seed
        self.done = done
        self.records: list[RequestRecord] = []
        self.lags: list[float] = []
        self.start = 0.0
        self.session: aiohttp.ClientSession

    async def all(self, prompts: Iterator[Prompt]) -> LoadResult:
        async with new_session(
            key=environment_key(), timeout_s=self.load.timeout, read_bufsize=2**20
        ) as self.session:
            self.start = perf_counter()
            ticker = asyncio.create_task(self._tick())
            try:
                numbered = enumerate(prompts)
                await (self._closed(numbered) if self.load.rate is None else self._open(numbered))
            finally:
                ticker.cancel()
        last = max((record.ended_s for record in self.records), default=0.0)
        return LoadResult(sorted(self.records, key=lambda r: r.index), last, self.lags)

    def _now(self) -> float:
        return perf_counter() - self.start

    def _over(self, when: float) -> bool:
        return (self.load.duration is not None and when >= self.load.duration) or bool(self.gone())

    async def _tick(self) -> None:
        while True:
            planned = perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            self.lags.append(1000 * (perf_counter() - planned))

    async def _closed(self, prompts: Iterator[tuple[int, Prompt]]) -> None:
        async def client() -> None:
            for index, prompt in prompts:  # shared: each takes the next one
                if self._over(self._now()):
                    return
                record = await self._one(index, prompt, self._now())
                if not record.ok and record.status is None:
                    await asyncio.sleep(BROKEN_S)

        assert self.load.concurrency is not None
        async with asyncio.TaskGroup() as group:
            for _ in range(self.load.concurrency):
                group.create_task(client())

    async def _open(self, prompts: Iterator[tuple[int, Prompt]]) -> None:
        assert self.load.rate is not None
        times = arrivals(self.load.rate, self.load.arrival, self.load.burst_size, self.seed)
        async with asyncio.TaskGroup() as group:
            for (index, prompt), when in zip(prompts, times, strict=False):
                if self._over(when):
                    return
                if (wait := when - self._now()) > 0:
                    await asyncio.sleep(wait)
                group.create_task(self._one(index, prompt, when))

    async def _one(self, index: int, prompt: Prompt, scheduled_s: float) -> RequestRecord:
        record = RequestRecord(index, scheduled_s, prompt=prompt.text)
        body = {
            **prompt.content,
            "seed": self.seed + index,
            **prompt.fields,
            **self.request,
            "stream": self.load.stream,
        }
        if self.load.stream:
            body["stream_options"] = {"include_usage": True}
        record.sent_s = self._now()
        try:
            await self._talk(record, prompt.path, body)
        except TimeoutError:
            record.error = f"no whole answer within {self.load.timeout:g} s"
        except RecursionError:
            record.error = "an answer that is too deeply nested"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            record.error = f"{type(error).__name__}: {error}"[:MAX_ERROR]
        finally:
            record.ended_s = self._now()
        if record.ok:
            self._measure(record, prompt)
        self.records.append(record)
        self.done(record)
        return record

    def _measure(self, record: RequestRecord, prompt: Prompt) -> None:
        record.e2el_ms = 1000 * (record.ended_s - record.sent_s)
        if record.ttft_ms is not None and (record.output_tokens or 0) > 1:
            assert record.output_tokens is not None
            record.tpot_ms = (record.e2el_ms - record.ttft_ms) / (record.output_tokens - 1)
        if prompt.expected is not None:
            record.expected = prompt.expected
            record.correct = decide_response(record.text, prompt.expected)

    async def _talk(self, record: RequestRecord, path: str, body: Mapping[str, Any]) -> None:
        """One exchange, into the record. Raises what the library raises for a broken connection."""
        async with self.session.post(self.url + path, json=body) as answer:
            record.status = answer.status
            if answer.status != 200:
                record.error = (await answer.text())[:MAX_ERROR]
            elif self.load.stream:
                await self._stream(record, answer)
            else:
                tree = await answer.json()
                self._book(record, tree)
                if not choices_of(tree):
                    raise ValueError("the answer has no choices")
                record.ok = True

    async def _stream(self, record: RequestRecord, answer: aiohttp.ClientResponse) -> None:
        last, num_choices = 0.0, 0
        async for data in events(answer.content.iter_any()):
            if data == "[DONE]":
                if not num_choices:
                    raise ValueError("the stream held no choice")
                record.ok = True
                return
            tree = json.loads(data)
            has_text = self._book(record, tree)
            num_choices += len(choices_of(tree))
            if has_text:
                now = self._now()
                if record.ttft_ms is None:
                    record.ttft_ms = 1000 * (now - record.sent_s)
                else:
                    record.itl_ms.append(1000 * (now - last))
                last = now
        raise ValueError("the stream ended without [DONE]")

    def _book(self, record: RequestRecord, tree: Any) -> bool:
        """Write a response or a chunk into the record; whether it carried text. Raises ValueError for what is
        neither."""
        check_no_error(tree)
        text = ""
        for choice in choices_of(tree):
            text += text_of(choice)
            record.finish_reason = reason_of(choice) or record.finish_reason
        record.text += text
        if tree.get("usage"):
            record.prompt_tokens, record.output_tokens = tokens_of(tree)
        if llada := llada_of(tree):
            reply = ReadReply("", None, None, None, llada)
            record.decoding, record.cost = reply.decoding, reply.cost
        return bool(text)


def judge(records: Sequence[RequestRecord], scorer: Scorer) -> list[RequestRecord]:
    """Decide what was not while the load ran: math-verify would have taken time from the generator, and from
    a server on this host. The records that it was decided for."""
    undecided = [r for r in records if r.ok and r.expected is not None and r.correct is None]
    for record in undecided:
        assert record.expected is not None
        record.correct = scorer.is_right(record.text, record.expected)
    return undecided


async def events(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The data of each server-sent event, however the bytes are cut."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).replace(b"\r\n", b"\n").split(b"\n\n")
        for event in whole:
            lines = [line[5:].lstrip() for line in event.split(b"\n") if line.startswith(b"data:")]
            if lines:
                yield b"\n".join(lines).decode()
