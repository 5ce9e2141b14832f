"""What NeMo-Skills sends, and what our server makes of it: pinned, so that we notice when either side moves.

The requests are recordings of NeMo-Skills 0.7.0 (tests/recordings/requests.jsonl). That each is answered in
OpenAI's shape is tests/server's; here it is what they are decoded with. Where NeMo-Skills is installed
(LLADA_NS names its `ns`, or it is on PATH) it is run, and what it sends is compared with the recordings.
"""

import json
import os
from pathlib import Path

import httpx
import pytest

from llada_exp.evals.nemo.command import NemoPlan, find
from llada_exp.evals.nemo.process import run
from llada_exp.evals.nemo.results import first_look, read_results, verify_parameters
from llada_exp.jobs import running_server
from llada_exp.types import DECODING_FIELDS
from tests.evals.nemo import fake_ns
from tests.evals.nemo.fakes import endpoint

RECORDINGS = Path(__file__).parents[2] / "recordings" / "requests.jsonl"
LINES = {line["client"]: line for line in map(json.loads, RECORDINGS.read_text().splitlines())}
VLLM, OPENAI = "AsyncOpenAI/Python 3.54.0", "NeMo-Skills server_type=openai"
EXTRA, TEXT = "NeMo-Skills server_type=vllm, extra_body", "NeMo-Skills server_type=vllm, endpoint_type=text"

SAMPLING = {"model", "seed", "temperature", "top_p"}
INERT = {"n", "logprobs", "frequency_penalty", "presence_penalty", "min_p", "repetition_penalty",
         "spaces_between_special_tokens"}  # fmt: skip
DECODING = {"steps", "block_length", "threshold", "remasking", "cfg_scale"}
FIELDS = {
    VLLM: SAMPLING | INERT | {"messages", "max_tokens"},
    EXTRA: SAMPLING | INERT | {"messages", "max_tokens", "stop"} | DECODING,
    OPENAI: SAMPLING | {"messages", "max_completion_tokens", "logprobs", "presence_penalty"},
    TEXT: SAMPLING | INERT | {"prompt", "max_tokens", "stop", "skip_special_tokens", "echo", "stream"},
}
ASKS_FOR_NOTHING = INERT | {"stop", "skip_special_tokens", "echo", "stream"}
USED = {
    # beside the sampling fields: what a request is decoded with that the server's preset does not say
    VLLM: {},
    OPENAI: {},
    TEXT: {},
    EXTRA: {"rule": "threshold", "threshold": 0.9, "block_length": 32, "remasking": "low_confidence",
            "cfg_scale": 0.0},
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny():
    with running_server(["model.name=llada-8b-instruct", "batch_size=4"], start_timeout_s=120) as handle:
        yield handle


@pytest.fixture(scope="module")
def http(tiny):
    with httpx.Client(base_url=tiny.url, timeout=120) as client:
        yield client


def ask(http, line, **changed):
    answer = http.post(line["path"], json=line["body"] | changed)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("client", FIELDS)
def test_the_recordings_hold_the_fields_that_we_know_of(client):
    assert set(LINES[client]["body"]) == FIELDS[client]


@pytest.mark.parametrize("client", FIELDS)
def test_what_is_asked_is_what_is_used_and_the_preset_says_the_rest(http, client):
    line = LINES[client]
    body = line["body"]
    name = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
    bare = {key: body[key] for key in ("messages", "prompt", "seed") if key in body}
    preset = http.post(line["path"], json=bare | {"max_tokens": 8}).json()["llada"]["decoding"]
    asked = {key: body[key] for key in ("temperature", "top_p", "seed")} | {"max_tokens": body[name]}
    used = ask(http, line)["llada"]["decoding"]
    assert set(used) == set(DECODING_FIELDS)
    expected = preset | asked | USED[client]
    if USED[client]:  # a rule of its own: the parameters of the preset's mean nothing
        expected = {key: expected[key] for key in {*asked, *USED[client]}}
    assert {key: used[key] for key in expected} == expected


@pytest.mark.parametrize("client", FIELDS)
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_fields_that_ask_for_nothing_change_nothing(http, client, temperature):
    """A penalty of 1 that were taken for one would be another model; see `presence_penalty` of `openai`."""
    line = LINES[client]
    bare = {key: value for key, value in line["body"].items() if key not in ASKS_FOR_NOTHING}
    whole = ask(http, line, temperature=temperature)
    alone = ask(http, line | {"body": bare}, temperature=temperature)
    assert whole["choices"] == alone["choices"]
    assert whole["usage"] == alone["usage"]
    assert whole["llada"]["decoding"] == alone["llada"]["decoding"]


def test_a_seed_is_an_answer(http):
    """It asks a whole sample of a benchmark with one seed, and goes on after a restart with the same."""
    line = LINES[EXTRA]
    texts = [
        ask(http, line, temperature=5.0, seed=seed)["choices"][0]["message"]["content"] for seed in (1, 2, 1)
    ]
    assert texts[0] == texts[2] != texts[1]


@pytest.mark.parametrize("path", ["/", "/v1"])
def test_who_waits_with_put_has_an_answer(http, path):
    """Of a server that it hosts it asks `/`, of another one `/v1`."""
    assert http.put(path).status_code == 200


def test_the_fake_sends_what_was_recorded():
    """So that a test with it says something of NeMo-Skills."""
    hydra = {f"inference.extra_body.{name}": 1 for name in DECODING} | {"inference.tokens_to_generate": 9}
    body = fake_ns.request({"model": "m"}, hydra, "p", 0)
    assert set(body) == FIELDS[EXTRA] - {"stop"}
    assert {name: body[name] for name in INERT} == {name: LINES[EXTRA]["body"][name] for name in INERT}
    assert body["messages"][0]["content"].startswith(fake_ns.PROMPT)
    assert LINES[VLLM]["body"]["messages"][0]["content"].startswith(fake_ns.PROMPT)


def sums(installed):
    """A benchmark of the install with data, or none."""
    for name in ("gsm8k", "math-500", "hendrycks_math"):
        if (installed.package / "dataset" / name / "test.jsonl").is_file():
            return name
    return None


def test_a_real_run_sends_what_was_recorded_and_every_parameter_arrives(tiny, tmp_path):
    try:
        installed = find(os.environ.get("LLADA_NS"))
    except ValueError as error:
        pytest.skip(str(error))
    if (name := sums(installed)) is None:
        pytest.skip(f"NeMo-Skills {installed.version} has no data here: ns prepare_data gsm8k")
    record = tmp_path / "record.jsonl"
    decoding = {"rule": "threshold", "threshold": 0.8, "block_length": 16, "cache": "prefix"}

    def forward(body):
        answer = httpx.post(f"{tiny.url}/v1/chat/completions", json=body, timeout=120)
        assert answer.status_code == 200, answer.text
        return answer.json()

    with endpoint(record, forward) as address:
        plan = NemoPlan({name: 2}, address, "llada-8b-instruct", tmp_path / "out", max_samples=3,
                        temperature=0.6, tokens_to_generate=32, concurrency=4, decoding=decoding)  # fmt: skip
        run(installed, plan, tmp_path, first_look(plan.sent(), record))
    assert verify_parameters(plan.sent(), record) is None
    answers = read_results(plan, record)
    assert len(answers) == 6
    assert all(a.nfe and a.decoding["threshold"] == 0.8 for a in answers)
    for line in map(json.loads, record.read_text().splitlines()):
        sent = {key for key, value in line["body"].items() if value is not None}
        assert sent - set(decoding) <= FIELDS[VLLM] | {"stream"}, f"NeMo-Skills {installed.version}"
        assert sent >= FIELDS[VLLM] | set(decoding), f"NeMo-Skills {installed.version}"
