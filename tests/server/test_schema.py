"""Bodies are checked strictly: a wrong type, range or name is a 400 that names the field."""

import json

import pytest

from llada_exp.server.routes.errors import ApiError
from llada_exp.server.routes.schema import ChatRequest, CompletionRequest, parse
from tests.server.conftest import say


def refused(kind, tree):
    body = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    with pytest.raises(ApiError) as caught:
        parse(kind, body)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1), ("temperature", "0.5"), ("temperature", True),
        ("top_p", 0), ("top_p", 1.1), ("top_k", -2), ("top_k", 1.5),
        ("max_tokens", 0), ("max_tokens", "64"), ("max_tokens", 1.0), ("max_tokens", True),
        ("max_completion_tokens", -1), ("n", 0), ("n", 1000), ("n", "2"), ("stream", "yes"), ("stream", 1),
        ("seed", -1), ("seed", 2**63), ("seed", 1.5), ("stop", 3), ("stop", [""]), ("stop", [1]),
        ("stop", ["x"] * 65), ("steps", 0), ("steps", 1.5), ("block_length", 0), ("threshold", 1.5),
        ("cfg_scale", -1), ("stream_options", []), ("messages", []), ("messages", {}),
        ("messages", [{"content": "x"}]), ("messages", [{"role": "user", "content": 3}]),
        ("messages", [{"role": "user", "content": None}]),
        ("messages", [{"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}]),
        ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_and_named(field, value):
    error = refused(ChatRequest, say("x") | {field: value})
    assert error.param is not None
    assert error.param.startswith(field)
    assert error.message.startswith(error.param)
    assert " expected " in error.message or " not supported" in error.message or "is missing" in error.message


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (ChatRequest, {"stream": 1}, "stream is 1; expected true or false"),
        (ChatRequest, {"n": 129}, "n is 129; expected an integer from 1 to 128"),
        (ChatRequest, {"n": "x"}, "n is 'x'; expected an integer from 1 to 128"),
        (ChatRequest, {"max_time": 0}, "max_time is 0; expected a number above 0 to 604800"),
        (ChatRequest, {"stream_options": 5}, "stream_options is 5; expected an object"),
        (ChatRequest, {"stream_options": {"include_usage": 1}},
         "stream_options.include_usage is 1; expected true or false"),
        (ChatRequest, {"model": 3}, "model is 3; expected a text"),
        (ChatRequest, {"logprobs": 2}, "logprobs is 2; expected true or false; top_logprobs is how many "
         "alternatives"),
        (CompletionRequest, {"logprobs": True}, "logprobs is True; expected an integer from 0 to 20"),
    ],
)  # fmt: skip
def test_every_field_is_refused_in_the_same_words(kind, fields, message):
    """Prevents words of the library that checks some of them ("Input should be a valid boolean")."""
    error = refused(kind, say("x", **fields) if kind is ChatRequest else {"prompt": "x", **fields})
    assert error.message == message


@pytest.mark.parametrize("kind", [ChatRequest, CompletionRequest])
def test_what_is_to_be_answered_is_missed(kind):
    error = refused(kind, {})
    assert error.message == f"{error.param} is missing"


def test_an_integer_of_thousands_of_digits_is_said_to_be_one():
    error = refused(ChatRequest, b'{"seed": ' + b"9" * 5000 + b"}")
    assert error.message == "the body is not JSON that can be read: an integer has more than 4300 digits"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"3", b'"x"', b"\xff\xfe", b'{"a": NaN}'])
def test_a_body_that_is_no_json_object_is_refused(body):
    assert refused(ChatRequest, body).code == "invalid_json"


def test_a_deeply_nested_body_is_refused():
    """The JSON reader's recursion limit must not become a 500."""
    refused(ChatRequest, b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def test_lone_surrogates_are_refused():
    """They cannot be encoded, and would fail inside the tokenizer."""
    refused(ChatRequest, b'{"messages": [{"role": "user", "content": "\\ud800"}]}')


@pytest.mark.parametrize("typo", ["stpes", "treshold", "block_lenght", "temprature", "max_token", "sede"])
def test_a_misspelt_field_is_refused_with_the_nearest_name(typo):
    error = refused(ChatRequest, say("x") | {typo: 1})
    assert error.param == typo
    assert "did you mean" in error.message


def test_an_unknown_field_passes_where_the_server_ignores_them():
    parse(ChatRequest, json.dumps(say("x") | {"stpes": 1}).encode(), ignore_unknown=True)


INERT = {
    "min_p": 0, "repetition_penalty": 1, "spaces_between_special_tokens": False, "skip_special_tokens": True,
    "presence_penalty": 1.0, "frequency_penalty": 0, "ignore_eos": False, "n": 1, "logprobs": False,
    "user": "me", "store": False, "metadata": {"a": "b"}, "service_tier": "auto",
    "parallel_tool_calls": True, "tools": None, "tool_choice": None, "response_format": {"type": "text"},
    "stop_token_ids": [], "bad_words": [], "detokenize": True, "truncate_prompt_tokens": None,
    "logit_bias": {}, "top_logprobs": None, "stop": None, "seed": None, "temperature": None,
}  # fmt: skip


@pytest.mark.parametrize("field", INERT)
def test_fields_that_ask_for_nothing_pass(field):
    parse(ChatRequest, json.dumps(say("x") | {field: INERT[field]}).encode())


@pytest.mark.parametrize(
    ("field", "value"),
    [("min_p", 0.1), ("repetition_penalty", 1.2), ("frequency_penalty", 1), ("logprobs", 5),
     ("tools", [{"type": "function"}]), ("response_format", {"type": "json_object"}), ("echo", True),
     ("guided_json", {}), ("logit_bias", {"5": 1}), ("logprobs", 1),
     ("stop_token_ids", ["x"]), ("bad_words", ["x"]), ("truncate_prompt_tokens", 100)],
)  # fmt: skip
def test_fields_that_ask_for_what_is_not_there_are_refused(field, value):
    assert refused(ChatRequest, say("x") | {field: value}).param == field


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]])],
)
def test_a_completion_prompt_has_four_forms(prompt, expected):
    prompts = parse(CompletionRequest, json.dumps({"prompt": prompt}).encode()).prompts()
    assert [prompt if isinstance(prompt, str) else list(prompt) for prompt in prompts] == expected


@pytest.mark.parametrize("prompt", [None, 3, [], [[]], [1, "a"], ["a", [1]], [1.5], [True], {}])
def test_other_prompts_are_refused(prompt):
    assert refused(CompletionRequest, {"prompt": prompt}).param.startswith("prompt")


def test_text_parts_are_joined():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = parse(ChatRequest, json.dumps(say(parts)).encode())
    assert request.messages[0].plain() == {"role": "user", "content": "ab"}
