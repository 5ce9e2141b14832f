"""Odd answers of other servers are named in words by every reader of ours, and end nothing but themselves."""

import json
from contextlib import suppress
from dataclasses import replace

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llada_exp.bench.client import run_load
from llada_exp.clients.pool import PoolResponse
from llada_exp.clients.reply import plain_reply, read_reply
from llada_exp.evals.request_loop import EarlyStop, Refused, read_answer
from tests.bench.fakes import DONE, saying, served
from tests.bench.test_client import CLOSED, QUESTION

CHOICE = {"message": {"content": "5"}, "finish_reason": "stop"}
GOOD = {"choices": [CHOICE], "usage": {"prompt_tokens": 1, "completion_tokens": 2.0}}
ODD = [
    ({}, "no choices"),
    ({**GOOD, "choices": []}, "no choices"),
    ({**GOOD, "choices": {}}, "choices is an object"),
    ({**GOOD, "choices": "5"}, "choices is a text"),
    ({**GOOD, "choices": ["5"]}, "choices[0] is a text"),
    ({**GOOD, "choices": [{}]}, "neither message nor text"),
    ({**GOOD, "choices": [{"message": "5"}]}, "message is a text ('5'); expected an object"),
    ({**GOOD, "choices": [{"message": {"content": [{"type": "text"}]}}]}, "message.content is a list"),
    ({**GOOD, "choices": [{"message": {"content": 5}}]}, "message.content is 5; expected a text"),
    ({**GOOD, "choices": [{"text": ["5"]}]}, "text is a list"),
    ({**GOOD, "choices": [{**CHOICE, "finish_reason": {}}]}, "finish_reason is an object"),
    ({**GOOD, "usage": [1, 2]}, "usage is a list"),
    ({**GOOD, "usage": {"completion_tokens": "2"}}, "usage.completion_tokens is a text"),
    ({**GOOD, "llada": "yes"}, "llada is a text"),
    ({**GOOD, "llada": {"decoding": []}}, "llada.decoding is a list"),
    ({**GOOD, "llada": {"choices": [3]}}, "llada.choices[0] is 3"),
    ({**GOOD, "llada": {"choices": [{"nfe": "many"}]}}, "llada.nfe is a text ('many'); expected a number"),
    ({**GOOD, "llada": {"choices": [{"e2el_ms": []}]}}, "llada.e2el_ms is a list"),
    ({**GOOD, "usage": {"completion_tokens": 10**40}}, "usage.completion_tokens is 1000"),  # of no table
    ({**GOOD, "choices": [None]}, "choices[0] is null"),
    ({"error": {"message": "overloaded", "code": 529}}, "the answer failed: overloaded"),
    ({**GOOD, "error": "out of credit"}, "the answer failed: out of credit"),
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["message", "content", "text", "delta", "decoding", "rule"]), inner)
    ),
    max_leaves=6,
)
ANSWERS = st.dictionaries(
    st.sampled_from(["choices", "usage", "llada", "error"]), JSON | st.lists(JSON, max_size=2)
)


def response(tree, status=200):
    return PoolResponse(status, tree, "http://a:1", 1, 0.1)


def test_good_ones_are_read():
    reply = read_reply(GOOD)
    assert (reply.text, reply.finish_reason, reply.output_tokens) == ("5", "stop", 2)
    assert read_reply({"choices": [{"text": None}]}).text == ""
    assert read_reply({"choices": [{"message": {"content": None}}], "usage": None}).text == ""


@pytest.mark.parametrize(
    ("choice", "extras"),
    [
        ({"text": "5"}, {"usage": None}),
        (
            {"message": {"content": "5", "tool_calls": [{"id": "1"}], "role": 5}},
            {"usage": {"total_tokens": "x"}},
        ),
        ({"message": {"content": "5", "reasoning_content": [1]}, "index": "a", "logprobs": [1]}, {"id": 3}),
    ],
)
def test_clients_of_others_get_no_odd_extras(choice, extras):
    """Prevents an evaluation that ends at `Invalid response object` in the HTTP client of NeMo-Skills."""
    for is_chat in (True, False):
        plain = plain_reply({"choices": [choice], "created": "now", **extras}, is_chat)
        message = {"message": {"role": "assistant", "content": "5"}} if is_chat else {"text": "5"}
        assert plain["choices"] == [{"index": 0, "finish_reason": "stop", **message}]
        assert plain["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        assert isinstance(plain["created"], int)
        assert isinstance(plain["id"], str)


def test_every_choice_of_them_is_read():
    with pytest.raises(ValueError, match="neither message nor text"):
        plain_reply({"choices": [CHOICE, {}]}, is_chat=True)


@pytest.mark.parametrize(("tree", "words"), ODD)
def test_evaluations_fail_that_answer_with_words(tree, words):
    fields = read_answer(response(tree))
    assert fields["error"].startswith("200: ")
    assert words in fields["error"]
    EarlyStop({"rule": "fixed"}).check(response(tree))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(ANSWERS, st.sampled_from([200, 200, 500]))
def test_nothing_ends_an_evaluation(tree, status):
    fields = read_answer(response(tree, status))
    assert fields["error"] is None or isinstance(fields["error"], str)
    assert isinstance(fields["response"], str)
    with suppress(Refused):
        EarlyStop({"rule": "fixed"}).check(response(tree, status))


@pytest.mark.parametrize("stream", [False, True])
def test_a_benchmark_goes_on(stream):
    """Prevents `unhandled errors in a TaskGroup`, which throws the whole load away."""
    bodies = [json.dumps(tree).encode() for tree, _ in ODD]
    bodies += [
        b"[]",
        b'"5"',
        b"5",
        b"null",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"error": "no"}',
        b'{"error": [1]}',
    ]
    left = iter(bodies)

    with served() as endpoint:

        async def handle(request, body):
            data = next(left)
            if stream:
                return await saying(b"data: " + data + b"\n\n", DONE)(request, body)
            return web.Response(body=data, content_type="application/json")

        endpoint.handler = handle
        load = replace(CLOSED, concurrency=1, stream=stream)
        result = run_load(endpoint.url, iter([QUESTION] * len(bodies)), load, {}, seed=1)
    assert len(result.records) == len(bodies)
    wrong = [bodies[r.index] for r in result.records if r.ok or not r.error or "TaskGroup" in r.error]
    assert not wrong
