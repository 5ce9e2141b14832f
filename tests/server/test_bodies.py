"""What one body may cost: it is counted before it is parsed, and a long one is parsed elsewhere."""

import asyncio
import json
import os
import signal
from contextlib import closing

import psutil
import pytest
from fastapi import Request

from llada_exp.server.processes.side_process import SideProcess, SideProcessError
from llada_exp.server.routes import body as module
from llada_exp.server.routes import body_shape
from llada_exp.server.routes.body import LONG, SHORT, BodyReader, parsed
from llada_exp.server.routes.body_shape import check_shape
from llada_exp.server.routes.errors import ApiError
from llada_exp.server.routes.prompt_room import SHORT_BYTES, SHORT_IDS, PromptRoom
from llada_exp.server.routes.schema import ChatRequest, CompletionRequest


@pytest.fixture
def small_limits(monkeypatch):
    monkeypatch.setattr(body_shape, "MAX_VALUES", 70)
    monkeypatch.setattr(body_shape, "MAX_NAMES", 20)
    monkeypatch.setattr(body_shape, "MAX_DEPTH", 6)
    monkeypatch.setattr(body_shape, "_STRETCH", 7)  # texts and escapes lie across its borders


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": list(range(30))},
        {"prompt": "[{,:" * 50},
        {"prompt": 'he said "[[[[[[[[" and \\"{{{{{{{{{\\\\" ' * 9, "[,,,,:" * 5: 1},
        {"prompt": ["\\", '"', "[" * 30, '\\"', "]" * 30], "metadata": {"a": [[["}"]]]}},
    ],
)
def test_what_stands_inside_texts_is_not_counted(small_limits, body):
    check_shape(json.dumps(body).encode())
    check_shape(json.dumps(body, indent=3).encode())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"prompt": list(range(80))}, "81 values; at most 70"),
        ({"prompt": [{}] * 30}, "32 lists and objects; at most 20"),
        ({f"k{i}": 1 for i in range(30)}, "30 names of fields; at most 20"),
        ({"prompt": '"' * 9 + "\\", "metadata": [[[[[[[1]]]]]]]}, "nested deeper than 6 levels"),
    ],
)
def test_too_much_is_refused_by_the_name_of_its_limit(small_limits, body, words):
    for text in (json.dumps(body), json.dumps(body, indent=3)):
        with pytest.raises(ApiError, match=words) as raised:
            check_shape(text.encode())
        assert raised.value.status == 400


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        (CompletionRequest, {"prompt": "x" * (SHORT_BYTES + 1)}, r"more than 9 input tokens \(65537 bytes"),
        (CompletionRequest, {"prompt": ["a", "é" * SHORT_BYTES]}, r"prompt\[1\]: This model's maximum"),
        (CompletionRequest, {"prompt": [7] * (SHORT_IDS + 1)}, "16385 input tokens"),
        (CompletionRequest, {"prompt": [[1], [7] * (SHORT_IDS + 1)]}, r"prompt\[1\]: .*16385 input tokens"),
        (
            ChatRequest,
            {"messages": [{"role": "user", "content": "x" * 40_000}] * 2},
            "length of the messages",
        ),
    ],
)
def test_what_no_row_holds_is_refused_by_its_length_alone(kind, body, words):
    body = json.dumps(body).encode()
    refused = answered(body, kind, PromptRoom(9, 70))
    assert (refused.status, refused.code) == (400, "context_length_exceeded")
    with pytest.raises(ApiError, match=words):
        raise refused


def test_what_a_row_may_hold_is_left_to_the_worker():
    for prompt in ("x" * SHORT_BYTES, [7] * SHORT_IDS, ["x" * SHORT_BYTES] * 3):
        request = answered(json.dumps({"prompt": prompt}).encode(), CompletionRequest, PromptRoom(9, 70))
        expected = prompt if isinstance(prompt[0], str) and len(prompt) == 3 else [prompt]
        assert [one if isinstance(one, str) else list(one) for one in request.prompts()] == expected


def answered(body, kind, room):
    """What becomes of a body: the request, or the error."""
    result = parsed(body, kind, room, False, 4096)
    return ApiError(**result) if isinstance(result, dict) else result


def http(body, piece=50_000):
    pieces = [body[i : i + piece] for i in range(0, len(body), piece)] or [b""]
    messages = [{"type": "http.request", "body": p, "more_body": True} for p in pieces]
    messages[-1]["more_body"] = False

    async def receive():
        return messages.pop(0)

    return Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)


def test_a_long_body_is_read_in_a_process_of_its_own_as_a_short_one_is_here():
    """Prevents what there was: one body of 31 MB took 22 GB, and stopped all answers for seconds."""

    async def run():
        bodies = BodyReader(4 * LONG)
        outcomes = []

        async def read(body):
            with closing(bodies.turn()) as turn:
                return await bodies.read(http(body), turn, CompletionRequest, None, False)

        try:
            for size in (10, LONG):
                body = {"prompt": "x" * size, "seed": 3, "user": None, "skip_special_tokens": False}
                request = await read(json.dumps(body).encode())
                outcomes.append(
                    (request.prompts(), request.seed, request.skip_special_tokens, request.warnings)
                )
                for wrong in ({"prompt": "x" * size, "stpes": 1}, {"prompt": ["x" * size, 1]}):
                    with pytest.raises(ApiError) as raised:
                        await read(json.dumps(wrong).encode())
                    outcomes.append((raised.value.status, raised.value.param, raised.value.code))
            with pytest.raises(ApiError, match="more than 524288 bytes"):
                await read(b'"' + b"x" * 4 * LONG)
            first = bodies._parser._process.pid
            os.kill(first, signal.SIGKILL)
            long = json.dumps({"prompt": "x" * LONG}).encode()
            again = await asyncio.gather(*(read(long) for _ in range(6)))
            assert [request.prompts() for request in again] == [["x" * LONG]] * 6
            second = bodies._parser._process.pid
        finally:
            bodies._parser.close()
        assert [outcome[0] for outcome in outcomes] == [["x" * 10], 400, 400, ["x" * LONG], 400, 400]
        assert [outcome[1:] for outcome in outcomes[:3]] == [outcome[1:] for outcome in outcomes[3:]]
        return first, second

    first, second = asyncio.run(run())
    assert first != second
    assert not any(map(psutil.pid_exists, (first, second)))


def test_many_bodies_at_once_leave_others_a_turn_between_them(monkeypatch):
    """Prevents what there was: bodies that came together were parsed together, and all others waited."""
    events = []
    monkeypatch.setattr(module, "parsed", lambda body, *_: events.append("body"))

    async def run():
        bodies = BodyReader(LONG)
        body = b"x" * (SHORT + 1)

        async def read():
            with closing(bodies.turn()) as turn:
                await bodies.read(http(body), turn, CompletionRequest, None)

        async def other():
            for _ in range(40):
                await asyncio.sleep(0)
                events.append("other")

        await asyncio.gather(other(), *(read() for _ in range(12)))

    asyncio.run(run())
    assert events.count("body") == 12
    assert "body body" not in " ".join(events)


def die(body):
    os.kill(os.getpid(), signal.SIGKILL)


def fill(body):
    return bytearray(2**32)


def test_a_call_that_ends_its_process_is_an_error_and_not_tried_for_ever():
    async def run(function):
        beside = SideProcess(function, max_s=30, max_bytes=2**28)
        try:
            with pytest.raises(SideProcessError) as raised:
                await beside.call([b"x"])
            return str(raised.value)
        finally:
            beside.close()

    assert asyncio.run(run(die)) == "its process died"
    assert asyncio.run(run(fill)) == "it takes too much memory"


def test_an_error_gives_back_little_of_what_was_sent():
    error = answered(json.dumps({"prompt": "x", "y" * 10**6: 1}).encode(), CompletionRequest, None)
    assert len(str(vars(error))) < 1000
    error = ApiError(400, "x" * 10**6, param="y" * 10**6).body()["error"]
    assert {name: len(error[name]) // 1000 for name in ("message", "param")} == {"message": 2, "param": 0}
