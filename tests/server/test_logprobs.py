"""Log-probabilities and continued messages over HTTP, as OpenAI's own library reads them."""

import json
import math

import openai
import pytest

from llada_exp.server.routes.schema import ChatRequest, CompletionRequest
from llada_exp.text import Tokenizer
from tests.server.conftest import REFERENCE, say
from tests.server.test_http import CHAT, TEXT, events, is_error
from tests.server.test_schema import refused

MODEL = "llada-8b-instruct"
HOT = {"max_tokens": 40, "temperature": 1.0, "seed": 5}


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0, timeout=120) as client:
        yield client


def joined(content):
    return b"".join(bytes(entry.bytes or ()) for entry in content).decode("utf-8", "replace")


def test_a_chats_tokens_join_to_its_text_streamed_and_not(client):
    ask = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "n": 2, **HOT}
    plain = client.chat.completions.create(**ask)
    asks = {**ask, "logprobs": True, "top_logprobs": 3}
    whole = client.chat.completions.create(**asks)
    assert [c.message.content for c in whole.choices] == [c.message.content for c in plain.choices]
    assert all(c.logprobs is None for c in plain.choices)
    for choice in whole.choices:
        content = choice.logprobs.content
        assert content
        assert joined(content) == choice.message.content
        for entry in content:
            assert -9999 <= entry.logprob <= 0
            values = [other.logprob for other in entry.top_logprobs]
            assert len(values) == 3
            assert values == sorted(values, reverse=True)
            assert math.fsum(map(math.exp, values)) <= 1 + 1e-5
    assert any(e.token != e.top_logprobs[0].token for c in whole.choices for e in c.logprobs.content)
    pieces, texts, entries = 0, {0: "", 1: ""}, {0: [], 1: []}
    for chunk in client.chat.completions.create(**asks, stream=True):
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        entries[choice.index] += choice.logprobs.content if choice.logprobs else []
        assert joined(entries[choice.index]).startswith(texts[choice.index])
        pieces += bool(choice.logprobs)
    assert entries == {c.index: c.logprobs.content for c in whole.choices}
    assert pieces > 2, "they come with their text"


def test_alone_logprobs_are_of_the_chosen_tokens_as_the_trace_has_them(http):
    body = say("hi", max_tokens=32, rule="threshold", threshold=0.3, logprobs=True, trace=True)
    answer = http.post(CHAT, json=body).json()
    content = answer["choices"][0]["logprobs"]["content"]
    trace = answer["llada"]["choices"][0]["trace"]
    sure = {p: c for step in trace for p, c in zip(step["positions"], step["confidences"], strict=True)}
    assert all(entry["top_logprobs"] == [] for entry in content)
    assert [math.exp(e["logprob"]) for e in content] == pytest.approx(
        [sure[i] for i in range(len(content))], 1e-3
    )


@pytest.mark.parametrize("count", [0, 2])
def test_completions_of_several_prompts_and_choices_have_the_older_shape(client, count):
    ask = {"model": MODEL, "prompt": ["abc", "de"], "n": 2, "logprobs": count, **HOT}
    whole = client.completions.create(**ask)
    assert [c.index for c in whole.choices] == [0, 1, 2, 3]
    for choice in whole.choices:
        said = choice.logprobs
        assert len(said.tokens) == len(said.token_logprobs) == len(said.top_logprobs) == len(said.text_offset)
        for token, logprob, top, start in zip(
            said.tokens, said.token_logprobs, said.top_logprobs, said.text_offset, strict=True
        ):
            assert top[token] >= logprob
            assert len(top) <= count + 1
            if not token.startswith(("bytes:", "<|")):
                assert choice.text[start:].startswith(token)
    parts = {i: {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []} for i in range(4)}
    for chunk in client.completions.create(**ask, stream=True):
        (choice,) = chunk.choices
        for name, values in parts[choice.index].items():
            values += getattr(choice.logprobs, name) if choice.logprobs else []
    assert parts == {c.index: c.logprobs.model_dump() for c in whole.choices}


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_beyond_a_stop_are_not_listed(http, stream):
    body = {"prompt": "abc", "max_tokens": 40, "threshold": 0.05, "logprobs": 0}
    whole = http.post(TEXT, json=body).json()["choices"][0]["text"]
    stop = next(s for i in range(4, len(whole) - 1) if whole.index(s := whole[i : i + 2]) >= 4)
    answer = http.post(TEXT, json=body | {"stop": [stop], "stream": stream})
    choices = [c["choices"][0] for c in events(answer)[:-1]] if stream else answer.json()["choices"]
    text = "".join(c["text"] for c in choices)
    offsets = [place for c in choices if c["logprobs"] for place in c["logprobs"]["text_offset"]]
    assert text == whole[: whole.index(stop)]
    assert offsets == sorted(offsets)
    assert offsets[-1] < len(text)
    assert choices[-1]["finish_reason"] == "stop"


def test_an_answer_of_no_text_has_a_list_of_no_tokens(fake_http):
    empty = {"prompt": "stop", "stop": ["s"], "max_tokens": 4}
    assert fake_http.post(TEXT, json=empty).json()["choices"][0]["logprobs"] is None
    said = fake_http.post(TEXT, json=empty | {"logprobs": 0}).json()["choices"][0]["logprobs"]
    assert said == {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    said = fake_http.post(CHAT, json=say("stop", stop=["s"], max_tokens=4, logprobs=True)).json()
    assert said["choices"][0]["logprobs"] == {"content": [], "refusal": None}


@pytest.mark.parametrize(
    ("kind", "fields", "param"),
    [
        (ChatRequest, {"top_logprobs": 1}, "top_logprobs"),
        (ChatRequest, {"logprobs": False, "top_logprobs": 1}, "top_logprobs"),
        (ChatRequest, {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        (ChatRequest, {"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
        (ChatRequest, {"logprobs": 3}, "logprobs"),
        (CompletionRequest, {"logprobs": True}, "logprobs"),
        (CompletionRequest, {"logprobs": 21}, "logprobs"),
        (CompletionRequest, {"logprobs": 1.5}, "logprobs"),
        (CompletionRequest, {"top_logprobs": 3}, "top_logprobs"),
        (
            ChatRequest,
            {"continue_final_message": True, "add_generation_prompt": True},
            "continue_final_message",
        ),
        (ChatRequest, {"continue_final_message": True}, "continue_final_message"),
        (CompletionRequest, {"continue_final_message": True}, "continue_final_message"),
    ],
)
def test_what_contradicts_itself_is_refused(kind, fields, param):
    body = say("x") if kind is ChatRequest else {"prompt": "x"}
    assert refused(kind, body | fields).param == param


def test_scoring_of_prompts_is_refused_with_the_way_to_it(http):
    for fields in ({"echo": True, "logprobs": 1, "max_tokens": 1}, {"echo": True}, {"prompt_logprobs": 1}):
        error = is_error(http.post(TEXT, json={"prompt": "x"} | fields), 400)
        assert "harness=lm_eval" in error["message"]


BEGUN = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "So, "}]


def test_a_last_message_is_continued_streamed_and_not(http):
    """The prompt is that of the rendered text, which a completion may send."""
    text = Tokenizer(REFERENCE).chat_text(BEGUN, "open")
    raw = http.post(TEXT, json={"prompt": text, "add_special_tokens": False, **HOT}).json()
    for fields in ({}, {"add_generation_prompt": False}):
        body = {"messages": BEGUN, "continue_final_message": True, **fields, **HOT}
        answer = http.post(CHAT, json=body).json()
        assert answer["choices"][0]["message"]["content"] == raw["choices"][0]["text"]
        assert answer["usage"] == raw["usage"]
        *chunks, _ = events(http.post(CHAT, json=body | {"stream": True}))
        pieces = [c["choices"][0]["delta"].get("content", "") for c in chunks]
        assert "".join(pieces) == raw["choices"][0]["text"]
    begins = http.post(CHAT, json={"messages": BEGUN, **HOT}).json()["usage"]["prompt_tokens"]
    none = http.post(CHAT, json={"messages": BEGUN, "add_generation_prompt": False, **HOT}).json()["usage"]
    assert none["prompt_tokens"] < begins


def test_continuous_usage_is_the_choices_own(http):
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"prompt": ["a", "a longer prompt"], "n": 2, "ignore_eos": True, "max_tokens": 40, "stream": True}
    *chunks, total, _ = events(http.post(TEXT, json=body | {"stream_options": options}))
    last = {c["choices"][0]["index"]: c["usage"] for c in chunks}
    assert [last[i]["completion_tokens"] for i in range(4)] == [40] * 4
    prompts = [last[i]["prompt_tokens"] for i in range(4)]
    assert prompts[0] == prompts[1] < prompts[2] == prompts[3]
    assert all(u["total_tokens"] == u["prompt_tokens"] + u["completion_tokens"] for u in last.values())
    assert total["usage"]["completion_tokens"] == 160
    assert total["usage"]["prompt_tokens"] == prompts[0] + prompts[2]


def test_what_json_cannot_say_is_never_sent(http):
    """Guided far, all but one token have no probability left in float32."""
    body = {"prompt": "abc", "max_tokens": 8, "cfg_scale": 1000, "temperature": 100, "logprobs": 20}
    answer = http.post(TEXT, json=body)
    assert answer.status_code == 200
    parsed = json.loads(answer.text, parse_constant=lambda name: pytest.fail(name))
    assert min(parsed["choices"][0]["logprobs"]["token_logprobs"]) >= -9999.0
