"""guidellm, a short closed loop: it believes our usage, and asks with `ignore_eos`."""

import json

from tests.clients.conftest import run
from tests.clients.environments import environment


def test_guidellm(tiny, tmp_path):
    prompts = [{"prompt": f"What is {40 + i} + 8?", "output_tokens_count": 24} for i in range(6)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))
    run(
        environment("guidellm") / "guidellm", "run", "--disable-console-interactive",
        "--backend", f"kind=openai_http,target={tiny.url},model=llada-tiny",
        "--profile", "kind=concurrent,streams=2", "--constraint", "kind=max_requests,count=6",
        "--data", f"kind=json_file,path={tmp_path / 'prompts.jsonl'}",
        "--output", f"kind=json,path={tmp_path / 'report.json'}", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path),
    )  # fmt: skip
    (benchmark,) = json.loads((tmp_path / "report.json").read_text())["benchmarks"]
    totals = benchmark["metrics"]["request_totals"]
    assert (totals["successful"], totals["errored"]) == (6, 0)
    for request in benchmark["requests"]["successful"]:
        assert request["output_tokens"] == 24, "without a usage it silently reports the length it asked for"
        assert request["prompt_tokens"] > 10
        assert request["output"].startswith("4")
        assert 0 < request["time_to_first_token_ms"] <= 1000 * request["request_latency"]
