"""What reaches the wire of what NeMo-Skills gives litellm: the fields of the recordings, and no others."""

import json

import httpx

from tests.clients.conftest import HERE, run
from tests.clients.environments import environment
from tests.evals.nemo.fakes import endpoint
from tests.evals.nemo.test_contract import EXTRA, FIELDS, LINES, TEXT, VLLM


def test_what_nemo_skills_gives_litellm_arrives(tiny, tmp_path):
    record = tmp_path / "record.jsonl"

    def forward(body):
        answer = httpx.post(f"{tiny.url}/v1/{'chat/' if 'messages' in body else ''}completions", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    with endpoint(record, forward) as address:
        program = environment("litellm") / "python"
        done = run(program, str(HERE / "ask_as_nemo_skills.py"), f"{address}/v1")
    told = json.loads(done.stdout.splitlines()[-1])
    chat, text = map(json.loads, record.read_text().splitlines())
    assert [told["chat"]] == chat["texts"]
    assert (told["reason"], told["tokens"]) == (
        chat["finish_reasons"][0],
        chat["usage"]["completion_tokens"],
    )
    named = {key for key, value in chat["body"].items() if value is not None}
    extra = {"steps", "block_length", "rule"}
    assert named - {"stream"} == FIELDS[VLLM] | extra, "of extra_body, each at the top level"
    decoding = chat["llada"]["decoding"]
    assert (decoding["rule"], decoding["steps"], decoding["block_length"]) == ("fixed", 8, 8)
    for name in FIELDS[VLLM] & set(LINES[EXTRA]["body"]) - {
        "model",
        "messages",
        "seed",
        "temperature",
        "max_tokens",
    }:
        assert chat["body"][name] == LINES[EXTRA]["body"][name], name
    named = {key for key, value in text["body"].items() if value is not None}
    assert named - {"stream"} <= FIELDS[TEXT] - {"stop"}, "of a text: what was recorded, or less"
