"""The load generator: what it sends, when, and how it reads the answers."""

import asyncio
from dataclasses import replace

import pytest

from llada_exp.bench.client import events, run_load
from llada_exp.bench.settings import Load
from llada_exp.bench.workload import Prompt
from tests.bench.fakes import DONE, USAGE, answer, chunk, saying, served

CLOSED = Load(concurrency=2, rate=None, arrival="poisson", burst_size=4, num_requests=6, duration=None,
              warmup=0, repeats=1, stream=True, timeout=30)  # fmt: skip
QUESTION = Prompt(({"role": "user", "content": "What is 47 + 8?"},), fields={"max_tokens": 9}, expected="55")


@pytest.fixture
def endpoint():
    with served() as own:
        yield own


def run(endpoint, num=6, request=None, **changes):
    load = replace(CLOSED, **changes)
    return run_load(endpoint.url, iter([QUESTION] * num), load, request or {}, seed=100)


def test_a_closed_loop_keeps_so_many_in_flight_and_sends_every_request_once(endpoint):
    endpoint.handler = answer("#### 55", seconds=0.05)
    result = run(endpoint, num=6, concurrency=3)
    assert endpoint.most == 3
    assert [r.index for r in result.records] == [0, 1, 2, 3, 4, 5]
    assert sorted(body["seed"] for body in endpoint.bodies) == [100, 101, 102, 103, 104, 105]


def test_request_fields_win_over_the_workloads(endpoint):
    run(endpoint, num=1, request={"max_tokens": 3, "rule": "threshold"})
    (body,) = endpoint.bodies
    assert (body["max_tokens"], body["rule"], body["stream_options"]) == (
        3,
        "threshold",
        {"include_usage": True},
    )
    assert body["messages"] == [{"role": "user", "content": "What is 47 + 8?"}]


def test_latencies_are_to_text_and_not_to_chunks_without_any(endpoint):
    endpoint.handler = saying(chunk(""), 0.2, chunk("5"), 0.1, chunk("5"), chunk(**USAGE), DONE)
    (record,) = run(endpoint, num=1).records
    assert record.ok
    assert record.ttft_ms >= 200, "an early empty chunk faked the time to first token"
    (gap,) = record.itl_ms
    assert gap >= 90
    assert record.tpot_ms == pytest.approx((record.e2el_ms - record.ttft_ms) / 4)


def test_without_streaming_what_cannot_be_known_is_none_and_not_zero(endpoint):
    (record,) = run(endpoint, num=1, stream=False).records
    assert (record.ttft_ms, record.tpot_ms, record.itl_ms) == (None, None, [])
    assert (record.ok, record.output_tokens, record.correct) == (True, 5, True)
    assert "stream_options" not in endpoint.bodies[0]


def test_a_wrong_answer_is_told_from_a_right_one(endpoint):
    endpoint.handler = answer("#### 54")
    assert run(endpoint, num=1).records[0].correct is False


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([chunk("5"), b'data: {"error": {"message": "a kernel failed"}}\n\n'], "a kernel failed"),
        ([chunk("5")], "without [DONE]"),
        ([b"data: {nonsense\n\n"], "JSONDecodeError"),
    ],
)
def test_a_stream_that_breaks_is_a_failure_and_no_short_success(endpoint, parts, words):
    endpoint.handler = saying(*parts)
    (record,) = run(endpoint, num=1).records
    assert not record.ok
    assert words in record.error
    assert record.e2el_ms is None


def test_a_client_timeout_is_a_record_and_the_load_goes_on(endpoint):
    endpoint.handler = saying(chunk("5"), 20.0)
    result = run(endpoint, num=2, timeout=0.3)
    assert [r.error for r in result.records] == ["no whole answer within 0.3 s"] * 2


def test_nobody_there_is_a_record_of_each_request():
    endpoint = type("Nowhere", (), {"url": "http://127.0.0.1:9"})
    result = run(endpoint, num=3)
    assert [r.ok for r in result.records] == [False] * 3
    assert all("Connect" in r.error for r in result.records)


def test_an_open_loop_does_not_wait_for_answers(endpoint):
    # With a closed loop in disguise, a slow server would be asked slowly and look fast.
    endpoint.handler = answer("#### 55", seconds=0.6)
    result = run(endpoint, num=6, rate=50.0, concurrency=None, arrival="constant")
    assert endpoint.most == 6
    assert [round(r.scheduled_s, 3) for r in result.records] == [0.0, 0.02, 0.04, 0.06, 0.08, 0.1]
    assert all(r.sent_s >= r.scheduled_s for r in result.records)


def test_a_duration_ends_the_sending_and_waits_for_what_is_in_flight(endpoint):
    endpoint.handler = answer("#### 55", seconds=0.2)
    result = run(endpoint, num=10_000, duration=0.5)
    assert 2 <= len(result.records) <= 8
    assert all(r.ok for r in result.records)
    assert result.duration == max(r.ended_s for r in result.records)


def test_the_key_goes_along(endpoint, monkeypatch):
    seen = []

    async def handle(request, body):
        seen.append(request.headers.get("Authorization"))
        return await answer("x")(request, body)

    endpoint.handler = handle
    monkeypatch.setenv("LLADA_API_KEY", "a-key")
    run(endpoint, num=1)
    assert seen == ["Bearer a-key"]


def test_events_are_read_whole_however_the_bytes_are_cut():
    text = 'data: {"a": "é"}\r\n\r\n: a comment\n\ndata: one\ndata: two\n\ndata: [DONE]\n\n'.encode()

    async def collect(size):
        async def cut():
            for i in range(0, len(text), size):
                yield text[i : i + size]

        return [event async for event in events(cut())]

    for size in (1, 2, 3, 7, len(text)):
        assert asyncio.run(collect(size)) == ['{"a": "é"}', "one\ntwo", "[DONE]"], size
