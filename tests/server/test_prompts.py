"""Messages and prompts are read to their first fault, which is named by its place and with the real limit."""

import json
import time

import pytest

from llada_exp.server.routes.schema import ChatRequest, CompletionRequest, parse
from tests.server.conftest import say
from tests.server.test_schema import refused


@pytest.mark.parametrize("role", ["tool", "function"])
def test_roles_of_tools_say_that_there_are_none(role):
    error = refused(ChatRequest, {"messages": [{"role": role, "content": "x"}]})
    assert error.param == "messages[0].role"
    assert "tools are not supported" in error.message


@pytest.mark.parametrize("role", ["", "User", "bot", None, 3, ["user"], {}])
def test_other_roles_are_refused_with_those_that_there_are(role):
    error = refused(
        ChatRequest, {"messages": [{"role": "user", "content": "x"}, {"role": role, "content": "x"}]}
    )
    assert error.param == "messages[1].role"
    assert "system, developer, user, assistant" in error.message


@pytest.mark.parametrize("name", ["tool_calls", "function_call", "tool_call_id"])
def test_calls_of_tools_in_a_history_are_named_whatever_the_content(name):
    for content in (None, "", "x"):
        turn = {"role": "assistant", "content": content, name: [{"id": "1"}]}
        assert (
            refused(ChatRequest, {"messages": [*say("x")["messages"], turn]}).param == f"messages[1].{name}"
        )
    without = {"role": "assistant", name: [{"id": "1"}]}
    assert refused(ChatRequest, {"messages": [without]}).param == f"messages[0].{name}"


def test_an_assistant_that_said_null_said_nothing():
    turn = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
        "reasoning_content": "hm",
    }
    absent = {"role": "assistant"}  # as OpenAI's types allow, and what drops nulls sends
    messages = [turn, absent, *say("x")["messages"]]
    request = parse(ChatRequest, json.dumps({"messages": messages}).encode())
    assert [m.plain() for m in request.messages[:2]] == [{"role": "assistant", "content": ""}] * 2
    for role in ("user", "system", "developer"):
        error = refused(ChatRequest, {"messages": [{"role": role}]})
        assert error.message == "messages[0].content is missing"


@pytest.mark.parametrize(
    ("prompt", "place", "expected"),
    [
        ([9223372036854775808], "prompt[0]", "from 0 to"),
        ([1, -1], "prompt[1]", "from 0 to"),
        ([1, True], "prompt[1]", "a token id"),
        ([1, 2.0], "prompt[1]", "a token id"),
        ([0.5], "prompt[0]", "a token id"),
        ([True], "prompt[0]", "a text, a token id"),
        ([[1], [2, 10**30]], "prompt[1][1]", "from 0 to"),
        ([[1], []], "prompt[1]", "non-empty list of token ids"),
        ([[1], "a"], "prompt[1]", "list of token ids"),
        ([[1], [2, "a"]], "prompt[1][1]", "a token id"),
        (["a", "b", None], "prompt[2]", "a text"),
        (["a", 3], "prompt[1]", "a text"),
        (["a"] * 1025, "prompt", "1024"),
        ([[1]] * 1025, "prompt", "1024"),
        ([[[1]]], "prompt[0][0]", "a token id"),
        ({}, "prompt", "a non-empty text"),
        ([], "prompt", "a non-empty text"),
    ],
)
def test_a_wrong_prompt_is_named_by_its_place_and_what_is_allowed(prompt, place, expected):
    error = refused(CompletionRequest, {"prompt": prompt})
    assert error.param == place
    assert error.message.startswith(f"{place} ")
    assert expected in error.message


def test_the_limit_of_messages_is_the_configured_one():
    body = json.dumps({"messages": say("x")["messages"] * 5000}).encode()
    assert len(parse(ChatRequest, body, max_messages=5000).messages) == 5000
    assert "at most 4096" in refused(ChatRequest, body).message


def test_the_limit_of_stop_strings_is_in_the_message():
    assert "at most 64" in refused(ChatRequest, say("x", stop=["a"] * 65)).message


@pytest.mark.parametrize(
    "field", [{"messages": [{}] * 200_000}, {"messages": [{"role": "user", "content": [{}] * 200_000}]}]
)
def test_a_long_list_of_faults_costs_as_much_as_its_first(field):
    body = json.dumps(field).encode()
    began = time.perf_counter()
    error = refused(ChatRequest, body)
    assert len(error.message) < 500
    assert time.perf_counter() - began < 5
