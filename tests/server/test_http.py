"""The endpoint against a real server with real decoding: clients, shapes, recorded requests."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from llada_exp.types import CACHES
from tests.server.conftest import say

RECORDINGS = Path(__file__).parents[1] / "recordings" / "requests.jsonl"
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def events(response):
    """The data of a server-sent event stream, [DONE] included as a string."""
    lines = [line[6:] for line in response.text.split("\n\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def is_error(response, status):
    body = response.json()
    assert response.status_code == status, body
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert isinstance(body["error"]["message"], str)
    return body["error"]


MIXED = [
    (CHAT, say("one", max_tokens=20, steps=5)),
    (CHAT, say("two words", max_tokens=40, threshold=0.3)),
    (CHAT, say("three", max_tokens=33, temperature=1.0, seed=11, cache="dual")),
    (CHAT, say("four", max_tokens=16, block_length=8, steps=16, cache="prefix")),
    (CHAT, say("five", max_tokens=24, cfg_scale=1.0, steps=6)),
    (CHAT, say("six", max_tokens=48, temperature=0.7, top_p=0.9, top_k=20, remasking="random", steps=12)),
    (TEXT, {"prompt": "seven", "max_tokens": 24, "threshold": 0.05}),
    (TEXT, {"prompt": [5, 6, 7], "max_tokens": 30, "temperature": 1.2, "seed": 2, "n": 2}),
]  # fmt: skip


def texts(http, path, body):
    answer = http.post(path, json={"seed": 0, **body})
    assert answer.status_code == 200, answer.text
    return [c.get("text") or c["message"]["content"] for c in answer.json()["choices"]]


def test_sixteen_mixed_requests_at_once_equal_their_answers_alone(http):
    """Nothing is taken from the first request of a batch, and neighbours change nothing."""
    alone = [texts(http, path, body) for path, body in MIXED]
    before = http.get("/batch/stats").json()["batch_size_histogram"]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda job: texts(http, *job), MIXED * 2))
    assert together == alone * 2
    after = http.get("/batch/stats").json()["batch_size_histogram"]
    assert any(int(size) >= 3 and count > before.get(size, 0) for size, count in after.items())


def test_a_bad_request_among_good_ones_fails_alone(http):
    bad = [say("x", max_tokens=100_000), say("x", temperature=-1), {"messages": []}, say("x", stpes=3)]
    good = [say(str(i), max_tokens=16) for i in range(4)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: http.post(CHAT, json=body).status_code, bad + good))
    assert answers == [400] * 4 + [200] * 4


def test_the_response_names_seed_and_effective_decoding(http):
    told = http.post(CHAT, json=say("x", max_tokens=20, threshold=0.5, seed=9)).json()["llada"]
    assert told["seed"] == 9
    decoding = told["decoding"]
    assert (decoding["rule"], decoding["threshold"], decoding["block_length"]) == ("threshold", 0.5, 16)
    assert told["nfe"] >= 1
    assert told["tpf"] > 0


def test_the_response_says_what_was_asked_and_not_used_streamed_and_not(http):
    """Prevents a client from believing that its `steps` counted beside a threshold."""
    body = say("x", max_tokens=16, threshold=0.5, steps=8)
    assert http.post(CHAT, json=body).json()["llada"]["warnings"] == [
        "steps is 8 and not used: rule is 'threshold'"
    ]
    assert http.post(CHAT, json=say("x", max_tokens=16, steps=8)).json()["llada"]["warnings"] == []
    chunks = events(http.post(CHAT, json=body | {"stream": True, "n": 2}))[:-1]
    last = [c for c in chunks if c["choices"][0]["finish_reason"]]
    assert [c["llada"]["warnings"] for c in last] == [["steps is 8 and not used: rule is 'threshold'"]] * 2


def test_the_block_length_that_a_request_got_is_a_number_whoever_chose_it(fake_http):
    """The fake worker says 16 of its model; the preset says nothing."""
    used = fake_http.post(CHAT, json=say("x")).json()["llada"]["decoding"]
    assert used["block_length"] == 16
    assert (
        fake_http.post(CHAT, json=say("x", block_length=8)).json()["llada"]["decoding"]["block_length"] == 8
    )
    info = fake_http.get("/info").json()
    assert (info["decoding"]["block_length"], info["config"]["decoding"]["block_length"]) == (16, None)


def test_without_a_seed_each_request_gets_a_fresh_one_that_repeats_it(http):
    request = say("x", max_tokens=24, temperature=1.0)
    first, second = (http.post(CHAT, json=request).json() for _ in range(2))
    seed = first["llada"]["seed"]
    assert seed != second["llada"]["seed"]
    again = http.post(CHAT, json=request | {"seed": seed}).json()
    assert again["choices"][0]["message"] == first["choices"][0]["message"]


def test_choices_of_n_differ_and_the_first_is_the_request_alone(http):
    request = say("x", max_tokens=24, temperature=1.0, seed=4)
    alone = texts(http, CHAT, request)
    several = texts(http, CHAT, request | {"n": 3})
    assert several[:1] == alone
    assert len(set(several)) == 3


def test_usage_counts_a_prompt_once_for_all_its_choices(http):
    one = http.post(CHAT, json=say("x", max_tokens=8)).json()["usage"]
    three = http.post(CHAT, json=say("x", max_tokens=8, n=3)).json()["usage"]
    assert three["prompt_tokens"] == one["prompt_tokens"]
    assert three["completion_tokens"] > one["completion_tokens"]


def test_a_stream_has_the_shape_clients_parse(http):
    body = say("x", max_tokens=32, stream=True, n=2, stream_options={"include_usage": True})
    answer = http.post(CHAT, json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *chunks, usage, end = events(answer)
    assert end == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] > 0
    assert all(chunk["usage"] is None for chunk in chunks)
    for index in (0, 1):
        own = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
        assert own[0]["delta"]["role"] == "assistant"
        assert own[0]["delta"]["content"], "an empty first chunk fakes the time to first token"
        assert [c["finish_reason"] is not None for c in own] == [False] * (len(own) - 1) + [True]


def test_continuous_usage_grows_to_the_final_count(http):
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = say("x", max_tokens=48, stream=True, ignore_eos=True, stream_options=options)
    *chunks, usage, _ = events(http.post(CHAT, json=body))
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts)
    assert counts[0] > 0
    assert counts[-1] == usage["usage"]["completion_tokens"] == 48


def test_stop_strings_are_cut_streamed_and_not(http):
    whole = texts(http, TEXT, {"prompt": "abc", "max_tokens": 40, "threshold": 0.05})[0]
    stop = next(whole[i : i + 2] for i in range(4, len(whole) - 1) if whole[i : i + 2].isprintable())
    body = {"prompt": "abc", "max_tokens": 40, "threshold": 0.05, "stop": [stop]}
    cut = http.post(TEXT, json=body).json()["choices"][0]
    assert cut["text"] == whole[: whole.index(stop)]
    assert cut["finish_reason"] == "stop"
    streamed = events(http.post(TEXT, json=body | {"stream": True}))[:-1]
    assert "".join(c["choices"][0]["text"] for c in streamed) == cut["text"]


def recorded():
    lines = [json.loads(line) for line in RECORDINGS.read_text().splitlines()]
    return [pytest.param(line, id=line["client"]) for line in lines]


@pytest.mark.parametrize("line", recorded())
def test_recorded_requests_of_real_clients(http, line):
    body = dict(line["body"] or {})
    answer = http.request(line["method"], line["path"], json=line["body"])
    if body.get("echo") and body.get("logprobs"):
        assert "harness=lm_eval" in is_error(answer, 400)["message"]
    elif body.get("generation_algorithm") == "dual_cache" and "dual" not in CACHES:
        assert "available" in is_error(answer, 400)["message"]
    elif body.get("stream"):
        *_, usage, end = events(answer)
        assert (usage["choices"], end) == ([], "[DONE]")
        assert usage["usage"]["completion_tokens"] > 0
    elif line["method"] == "POST":
        told = answer.json()
        assert answer.status_code == 200, told
        prompts = body["prompt"] if isinstance(body.get("prompt"), list) else [0]
        assert len(told["choices"]) == len(prompts)
        limit = (body.get("max_tokens") or body["max_completion_tokens"]) * len(prompts)
        assert 0 < told["usage"]["completion_tokens"] <= limit
        assert all(c["finish_reason"] in ("stop", "length") for c in told["choices"])
    else:
        assert answer.status_code == 200


def test_errors_have_one_shape_wherever_they_come_from(http):
    is_error(http.get("/nowhere"), 404)
    is_error(http.delete("/v1/models"), 405)
    is_error(http.get(CHAT), 405)
    is_error(http.post(CHAT, content=b"{"), 400)
    is_error(http.post(CHAT, json=[]), 400)
    is_error(http.post(CHAT, json=say("x", n="2")), 400)
    is_error(http.post(TEXT, json={"prompt": [10**6]}), 400)
    assert is_error(http.post(CHAT, json=say("x", model="gpt-5")), 404)["code"] == "model_not_found"
    is_error(http.get("/v1/models/gpt-5"), 404)


def test_an_early_failure_of_a_stream_has_a_real_status(http):
    error = is_error(http.post(CHAT, json=say("x", stream=True, max_tokens=5000)), 400)
    assert error["code"] == "context_length_exceeded"
    assert error["message"].startswith("This model's maximum context length is ")
    assert "input tokens" in error["message"]


def test_a_mask_id_in_a_prompt_is_refused(http):
    model = json.loads((Path(__file__).parents[1] / "reference/llada-random-a/config.json").read_text())
    is_error(http.post(TEXT, json={"prompt": [1, model["mask_token_id"]]}), 400)


def test_request_ids_are_echoed_or_made(http):
    named = http.get("/health", headers={"x-request-id": "abc-1"})
    assert named.headers["x-request-id"] == "abc-1"
    assert http.get("/nowhere").headers["x-request-id"]


def test_a_content_type_is_not_asked_for(http):
    """curl -d sends a form's; the pasted line must work without a header too."""
    body = json.dumps(say("x", max_tokens=8)).encode()
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert http.post(CHAT, content=body, headers=form).status_code == 200


def test_models_by_name_and_alias(http):
    (card,) = http.get("/v1/models").json()["data"]
    assert card["id"] == "llada-8b-instruct"
    assert http.get("/v1/models/llada-8b-instruct").json() == card
    assert http.get("/v1/models/LLaDA_8B_Instruct").status_code == 200


def test_health_and_figures(http, server):
    health = http.get("/health").json()
    assert health["status"] == "ready"
    assert health["instance_id"] == server.info["instance_id"]
    assert (health["model_loaded"], health["device"], health["batch_processor_active"]) == (True, "cpu", True)
    http.post(CHAT, json=say("x", max_tokens=8))
    stats = http.get("/batch/stats").json()
    assert (stats["max_batch_size"], stats["max_wait_time"]) == (8, 0.1)
    assert (stats["pending_requests"], stats["currently_processing"]) == (0, 0)
    assert sum(stats["batch_size_histogram"].values()) == stats["num_steps"] > 0
    assert stats["workers"][0]["engine"]["rows_in_flight"] == 0
    names = {a["name"]: a["available"] for a in http.get("/generation/algorithms").json()["algorithms"]}
    assert names["basic"] is True
    assert http.put("/v1").status_code == 200


def test_bodies_over_the_limit_are_refused(http):
    with httpx.Client(base_url=http.base_url, timeout=30) as big:
        is_error(big.post(CHAT, json=say("x" * (33 * 2**20))), 413)


def test_without_a_seed_no_two_answers_of_a_request_share_one(http):
    hot = {"temperature": 20, "ignore_eos": True, "max_tokens": 6, "n": 2}
    answer = http.post(TEXT, json=hot | {"prompt": ["a", "a", "a"]}).json()
    told = [choice["seed"] for choice in answer["llada"]["choices"]]
    assert len({c["text"] for c in answer["choices"]}) == len(set(told)) == 6
    for choice, seed in zip(answer["choices"], told, strict=True):
        again = http.post(TEXT, json=hot | {"prompt": "a", "seed": seed, "n": 1}).json()
        assert again["choices"][0]["text"] == choice["text"]
    streamed = events(http.post(TEXT, json=hot | {"prompt": ["a", "a"], "stream": True}))[:-1]
    ends = [c["llada"]["choices"][0]["seed"] for c in streamed if c["choices"][0]["finish_reason"]]
    assert len(set(ends)) == 4
    shared = http.post(TEXT, json=hot | {"prompt": ["a", "a"], "seed": 1}).json()["llada"]["choices"]
    assert [c["seed"] for c in shared[:2]] == [c["seed"] for c in shared[2:]]
