"""aiperf, a short closed loop over streams."""

import json

from tests.clients.conftest import WEIGHTS, run
from tests.clients.environments import environment


def test_aiperf(tiny, tmp_path):
    run(
        environment("aiperf") / "aiperf", "profile", "--model", "llada-tiny", "--url", tiny.url,
        "--endpoint-type", "chat", "--streaming", "--tokenizer", str(WEIGHTS), "--request-count", "8",
        "--concurrency", "2", "--isl", "12", "--osl", "16", "--artifact-dir", str(tmp_path), "--ui", "none",
        "--no-gpu-telemetry", "--no-server-metrics",
    )  # fmt: skip
    told = json.loads((tmp_path / "profile_export_aiperf.json").read_text())
    assert told["request_count"]["avg"] == 8
    assert not told["error_summary"]
    rows = [json.loads(line) for line in (tmp_path / "profile_export.jsonl").read_text().splitlines()]
    assert len(rows) == 8
    for row in rows:
        metrics = row["metrics"]
        assert 0 < metrics["usage_completion_tokens"]["value"] <= 16
        assert 0 < metrics["time_to_first_token"]["value"] <= metrics["request_latency"]["value"]
