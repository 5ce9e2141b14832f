"""A body is read strictly: what fails later, or reads differently elsewhere, is a 400 that says where."""

import json

import pytest

from llada_exp.server.routes.errors import ApiError
from llada_exp.server.routes.schema import ChatRequest, CompletionRequest, parse
from llada_exp.server.routes.strict_json import read_object
from tests.server.test_schema import refused

HALVES = {
    rb'{"\ud83d": 1}': None,
    rb'{"prompt": "a\udc00"}': "prompt",
    rb'{"prompt": ["a", "\uD800"]}': "prompt[1]",
    rb'{"prompt": "x", "stop": ["a", "\udfffb"]}': "stop[1]",
    rb'{"prompt": "x", "metadata": {"a": [{"\uDBFF": 1}]}}': "metadata.a[0]",
    rb'{"prompt": "x", "user": "\ude00\ud83d"}': "user",
    rb'{"prompt": "x", "model": "\ud83d"}': "model",
    rb'{"prompt": "x", "logit_bias": {"\ud83d": "\ud83d"}}': "logit_bias",
}


@pytest.mark.parametrize("body", HALVES)
@pytest.mark.parametrize("kind", [ChatRequest, CompletionRequest])
def test_half_a_character_is_refused_wherever_it_stands(kind, body):
    error = refused(kind, body)
    assert (error.code, error.param) == ("invalid_json", HALVES[body])
    error.response()  # it can be sent


def test_whole_characters_however_they_are_written_are_text():
    assert read_object(rb'{"a": "\ud83d\ude00", "b": "\\ud83d"}') == {"a": "\U0001f600", "b": "\\ud83d"}
    assert read_object(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"prompt": "x", "n": 1, "n": 2}', "'n' stands twice"),
        (b'{"prompt": "x", "metadata": {"a": 1, "a": 1}}', "'a' stands twice"),
        (b'{"prompt": "x", "seed": Infinity}', "Infinity"),
        (b'{"prompt": "x", "user": -Infinity}', "Infinity"),
        (b'{"prompt": "x", "metadata": [NaN]}', "NaN"),
        (b'{"prompt": "\xed\xa0\x80"}', "not UTF-8 (byte 12)"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"prompt": ' + b'{"a":' * 200_000, "nested too deeply"),
        ('{"prompt": "x"}'.encode("utf-16"), "not UTF-8"),
        (b'{"seed": ' + b"1" * 5000 + b"}", "not JSON"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_strict_json_is_refused_with_the_reason(body, said):
    error = refused(CompletionRequest, body)
    assert error.code == "invalid_json"
    assert said in error.message


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 4000, "-0.0e-999", "123456789" * 400])
@pytest.mark.parametrize(
    "field",
    [
        "temperature",
        "top_p",
        "seed",
        "n",
        "max_time",
        "max_tokens",
        "priority",
        "min_p",
        "presence_penalty",
        "prompt",
        "stop",
        "stream",
        "model",
        "cfg_scale",
        "max_completion_tokens",
        "stream_options",
        "logprobs",
    ],
)
def test_no_number_is_too_large_for_an_answer(field, number):
    tree = {"prompt": [number]} if field == "prompt" else {"prompt": "x", field: number}
    body = json.dumps(tree).replace(f'"{number}"', number)
    try:
        parse(CompletionRequest, body.encode())
    except ApiError:
        error = refused(CompletionRequest, body.encode())
        assert error.param.startswith(field)
        assert len(error.response().body) < 2000
