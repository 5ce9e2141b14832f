"""The openai library, unchanged, against a real server: sync, async, streamed, n > 1, completions."""

import asyncio
import json

import openai
import pytest

from tests.server.conftest import REFERENCE, say

MODEL = "llada-8b-instruct"
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
ASK = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 40, "seed": 5,
       "temperature": 1.0}  # fmt: skip


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0, timeout=120) as client:
        yield client


def run(server, play):
    async def inside():
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="any", max_retries=0, timeout=120
        ) as own:
            return await play(own)

    return asyncio.run(inside())


def joined(chunks, text=lambda choice: choice.delta.content):
    """{index: text} of a stream; every index ends once, after its last text."""
    texts, reasons = {}, {}
    for chunk in chunks:
        for choice in chunk.choices:
            assert choice.index not in reasons, "nothing comes after a finish_reason"
            texts[choice.index] = texts.get(choice.index, "") + (text(choice) or "")
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    assert set(reasons) == set(texts)
    return texts


def test_async_answers_are_the_sync_ones(client, server):
    async def play(own):
        whole, parts = await asyncio.gather(
            own.chat.completions.create(**ASK), own.chat.completions.create(**ASK, stream=True)
        )
        return whole.choices[0].message.content, joined([chunk async for chunk in parts])[0]

    expected = client.chat.completions.create(**ASK).choices[0].message.content
    assert run(server, play) == (expected, expected)


def test_many_async_requests_with_their_own_decoding_are_answered_as_alone(client, server):
    fields = [
        {"steps": 4}, {"threshold": 0.2}, {"cache": "dual"}, {"use_cache": True}, {"block_length": 8},
        {"generation_algorithm": "dinfer_hierarchical"}, {"remasking": "random"}, {"top_k": 5},
    ]  # fmt: skip
    alone = [client.chat.completions.create(**ASK, extra_body=f).choices[0].message.content for f in fields]

    async def play(own):
        jobs = [own.chat.completions.create(**ASK, extra_body=f) for f in fields * 2]
        return [answer.choices[0].message.content for answer in await asyncio.gather(*jobs)]

    assert run(server, play) == alone * 2
    assert len(set(alone)) > 4, "the fields must do something"


def test_several_choices_streamed_are_those_unstreamed(client):
    whole = client.chat.completions.create(**ASK, n=3)
    streamed = joined(client.chat.completions.create(**ASK, n=3, stream=True))
    assert streamed == {c.index: c.message.content for c in whole.choices}
    assert len(set(streamed.values())) == 3
    seeds = [c["seed"] for c in whole.llada["choices"]]
    assert seeds[0] == 5
    assert len(set(seeds)) == 3


def test_a_choice_is_repeated_by_the_seed_that_the_response_names(client):
    whole = client.chat.completions.create(**ASK, n=3)
    for choice, cost in zip(whole.choices, whole.llada["choices"], strict=True):
        again = client.chat.completions.create(**(ASK | {"seed": cost["seed"]}))
        assert again.choices[0].message.content == choice.message.content


PROMPTS = [
    pytest.param("abc", 1, id="a string"),
    pytest.param(["abc", "de"], 2, id="strings"),
    pytest.param([5, 6, 7], 1, id="token ids"),
    pytest.param([[5, 6, 7], [8], [9, 10]], 3, id="lists of token ids"),
]


@pytest.mark.parametrize(("prompt", "count"), PROMPTS)
def test_completions_of_every_form_streamed_and_not(client, prompt, count):
    ask = {"model": MODEL, "prompt": prompt, "max_tokens": 24, "seed": 1, "temperature": 0.9, "n": 2}
    whole = client.completions.create(**ask)
    assert [c.index for c in whole.choices] == list(range(2 * count))
    assert {c.finish_reason for c in whole.choices} <= {"stop", "length"}
    parts = client.completions.create(**ask, stream=True, stream_options={"include_usage": True})
    parts = list(parts)
    assert joined(parts, lambda c: c.text) == {c.index: c.text for c in whole.choices}
    assert parts[-1].usage == whole.usage
    assert whole.usage.completion_tokens > 0


def test_prompts_of_a_list_are_answered_as_alone(client):
    ask = {"model": MODEL, "max_tokens": 24, "seed": 1, "temperature": 0.9}
    together = [c.text for c in client.completions.create(**ask, prompt=[[5, 6, 7], [8]]).choices]
    alone = [client.completions.create(**ask, prompt=p).choices[0].text for p in ([5, 6, 7], [8])]
    assert together == alone


def test_a_prompt_that_has_its_bos_gets_no_second_one(client):
    bos = json.loads((REFERENCE / "tokenizer_config.json").read_text())["bos_token"]
    count = lambda p: client.completions.create(model=MODEL, prompt=p, max_tokens=1).usage.prompt_tokens  # noqa: E731
    assert count(f"{bos}abc") == count("abc")
    assert count([5, 6]) == 2, "token ids are taken as they are"


def test_control_words_in_a_message_are_text(client, http):
    """Parsed, they would end the user's turn and let the user speak as the system."""

    def count(content):
        answer = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": content}], max_tokens=1
        )
        return answer.usage.prompt_tokens

    config = json.loads((REFERENCE / "config.json").read_text())
    decoder = json.loads((REFERENCE / "tokenizer.json").read_text())["added_tokens"]
    mask = next(t["content"] for t in decoder if t["id"] == config["mask_token_id"])
    plain = count("xx")
    for token in ("<|eot_id|>", mask):
        assert count(f"x{token}x") > plain + 1, f"{token} is one control id"
    raw = http.post(TEXT, json={"prompt": f"x{mask}x"})
    assert raw.status_code == 400, "in a raw prompt it is a mask id"
    assert "mask" in raw.json()["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"extra_body": {"stpes": 3}}, openai.BadRequestError),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, openai.BadRequestError),
        ({"response_format": {"type": "json_object"}}, openai.BadRequestError),
        ({"top_logprobs": 3}, openai.BadRequestError),
        ({"max_tokens": 10**6}, openai.BadRequestError),
        ({"model": "gpt-5"}, openai.NotFoundError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_done_raises_with_a_message(client, fields, error, stream):
    """The library shows nothing of an error in another shape than OpenAI's."""
    with pytest.raises(error) as caught:
        client.chat.completions.create(**(ASK | {"stream": stream} | fields))
    assert caught.value.body["message"]
    assert caught.value.request_id


def test_models_are_listed_and_looked_up(client):
    assert [m.id for m in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "llada_exp"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-5")


def test_leaving_a_stream_frees_its_row(client, http):
    with client.chat.completions.create(**(ASK | {"max_tokens": 400}), stream=True) as parts:
        next(iter(parts))

    async def freed():
        for _ in range(200):
            if http.get("/worker-status").json()["workers"][0]["rows_in_flight"] == 0:
                return True
            await asyncio.sleep(0.05)

    assert asyncio.run(freed())


def test_a_text_in_parts_is_the_same_prompt(http):
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    in_parts, whole = (http.post(CHAT, json=say(c, seed=0, max_tokens=16)).json() for c in (parts, "one two"))
    assert in_parts["choices"] == whole["choices"]
    assert in_parts["usage"] == whole["usage"]


def test_openai_client_gets_an_answer_with_usage(client):
    answer = client.chat.completions.create(
        model="llada-8b-instruct", messages=[{"role": "user", "content": "hi"}], max_tokens=24
    )
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 0 < answer.usage.completion_tokens <= 24


def test_openai_client_streams_the_same_text(client):
    request = {"model": "llada-8b-instruct", "messages": [{"role": "user", "content": "hi"}],
               "max_tokens": 48, "seed": 3, "temperature": 0.8}  # fmt: skip
    whole = client.chat.completions.create(**request)
    chunks = list(
        client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True})
    )
    parts = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(parts) == whole.choices[0].message.content
    assert len([p for p in parts if p]) >= 2, "48 tokens are three blocks: the text must come in pieces"
    assert chunks[-1].usage == whole.usage
    assert len({c.id for c in chunks}) == 1
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == [
        whole.choices[0].finish_reason
    ]


def test_openai_client_completes_several_prompts_with_several_choices(client):
    answer = client.completions.create(model="llada-8b-instruct", prompt=["a", "b"], n=2, max_tokens=8)
    assert [c.index for c in answer.choices] == [0, 1, 2, 3]


def test_openai_client_raises_a_bad_request(client):
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.chat.completions.create(
            model="llada-8b-instruct", messages=[{"role": "user", "content": "hi"}], temperature=-1
        )


def test_a_trace_tells_every_commit_once(client):
    # What draws an answer's life: each position, the step that committed it, and how sure it was.
    answer = client.chat.completions.create(
        model="llada-8b-instruct", messages=[{"role": "user", "content": "hi"}],
        max_tokens=32, extra_body={"trace": True, "rule": "threshold", "threshold": 0.3, "ignore_eos": True},
    )  # fmt: skip
    told = answer.llada["choices"][0]
    commits = told["trace"]
    assert [c["step"] for c in commits] == list(range(told["nfe"]))
    assert sorted(p for c in commits for p in c["positions"]) == list(range(32))
    assert all(0 <= x <= 1 for c in commits for x in c["confidences"])
    assert "trace" not in client.chat.completions.create(
        model="llada-8b-instruct", messages=[{"role": "user", "content": "hi"}], max_tokens=8
    ).llada["choices"][0]  # fmt: skip
