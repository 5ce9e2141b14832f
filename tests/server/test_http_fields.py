"""Fields of a request over HTTP, on a real model: lists, no named length, special tokens, warnings."""

import pytest

from tests.server.conftest import say
from tests.server.test_http import CHAT, TEXT, events, is_error


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("bad", "param"), [("x" * 3000, "prompt[40]"), ([5, 400], "prompt[40][1]"), ([5] * 1025, "prompt[40]")]
)
def test_a_list_is_looked_through_before_any_of_it_is_decoded(http, bad, param, stream):
    good = [[5, 6]] if isinstance(bad, list) else ["What is 4 + 3?"]
    before = http.get("/stats").json()["requests"]
    body = {"prompt": [*good * 40, bad, *good * 10], "stream": stream, "ignore_eos": True}
    error = is_error(http.post(TEXT, json=body), 400)
    assert error["param"] == param
    assert error["message"].startswith(param)
    assert http.get("/stats").json()["requests"] == before, "nothing was decoded"


def test_without_a_length_an_answer_has_what_its_row_has_left(http):
    ask = {"prompt": [5] * 1000, "ignore_eos": True}
    answer = http.post(TEXT, json=ask).json()
    assert (answer["usage"]["completion_tokens"], answer["llada"]["decoding"]["max_tokens"]) == (24, 24)
    several = http.post(TEXT, json=ask | {"prompt": [[5] * 1000, [5] * 1010], "n": 2}).json()
    assert [c["max_tokens"] for c in several["llada"]["choices"]] == [24, 24, 14, 14]
    end = events(http.post(TEXT, json=ask | {"stream": True}))[-2]
    assert end["llada"]["decoding"]["max_tokens"] == 24
    error = is_error(http.post(TEXT, json=ask | {"max_completion_tokens": 25}), 400)
    assert error["message"].endswith("reduce the length of the prompt or max_completion_tokens.")


def test_special_tokens_are_text_where_that_is_asked_for(http):
    ask = {"prompt": "abc", "temperature": 3, "seed": 1, "max_tokens": 200, "ignore_eos": True}
    plain, kept = (http.post(TEXT, json=ask | {"skip_special_tokens": flag}).json() for flag in (True, False))
    assert "<|" not in plain["choices"][0]["text"]
    assert "<|" in kept["choices"][0]["text"]
    streamed = events(http.post(TEXT, json=ask | {"skip_special_tokens": False, "stream": True}))[:-1]
    assert "".join(c["choices"][0]["text"] for c in streamed) == kept["choices"][0]["text"]
    fewer = http.post(TEXT, json=ask | {"add_special_tokens": False}).json()
    assert fewer["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"] - 1


def test_warnings_are_in_the_answer(http):
    answer = http.post(CHAT, json=say("x", max_tokens=4, presence_penalty=1, steps=2, threshold=0.5)).json()
    assert [w.split()[0] for w in answer["llada"]["warnings"]] == ["presence_penalty", "steps"]
