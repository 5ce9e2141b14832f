"""Reports as guidellm 0.8.1 and aiperf 0.13.0 wrote them (against a server of ours) become rows."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from llada_exp.bench.collect import main
from llada_exp.bench.foreign import read_foreign
from llada_exp.bench.rows import complete
from llada_exp.bench.schema import ROW, VERSION
from llada_exp.runs.files import write_rows

RECORDINGS = Path(__file__).parents[1] / "recordings"


def test_guidellm():
    (row,) = read_foreign(RECORDINGS / "guidellm.json")
    told = json.loads((RECORDINGS / "guidellm.json").read_text())["benchmarks"][0]
    assert (row["source"], row["load"], row["concurrency"], row["completed"]) == ("guidellm", "closed", 2, 6)
    seconds = told["metrics"]["request_latency"]["successful"]["percentiles"]["p50"]
    assert row["median_e2el_ms"] == pytest.approx(1000 * seconds), "theirs is in seconds"
    assert row["output_throughput"] == pytest.approx(96 / told["duration"])
    assert (
        row["median_ttft_ms"] == told["metrics"]["time_to_first_token_ms"]["successful"]["percentiles"]["p50"]
    )
    assert row["nfe"] is None
    assert list(row) == [c.name for c in ROW]


def test_aiperf():
    (row,) = read_foreign(RECORDINGS / "aiperf.json")
    told = json.loads((RECORDINGS / "aiperf.json").read_text())
    assert (row["source"], row["load"], row["concurrency"], row["completed"]) == ("aiperf", "closed", 2, 6)
    assert (row["model"], row["stream"], row["total_output_tokens"]) == ("llada-tiny", True, 88)
    assert row["p99_e2el_ms"] == told["request_latency"]["p99"]
    assert row["median_tpot_ms"] == told["inter_token_latency"]["p50"], "their ITL is vLLM's TPOT"
    assert row["median_itl_ms"] == told["inter_chunk_latency"]["p50"]
    assert row["accuracy"] is None


@pytest.mark.parametrize("text", ["{}", "[]", "nonsense", '{"benchmarks": []}'])
def test_another_file_is_refused_by_name(text, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"report\.json"):
        read_foreign(path)


def test_rows_of_all_sources_are_collected(tmp_path, capsys):
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    write_rows(sweep / "summary", [complete({"point": "a", "source": "llada_exp"})], ROW, VERSION)
    out = tmp_path / "all.parquet"
    assert main([str(out), str(sweep), str(RECORDINGS / "guidellm.json")]) == 0
    assert pq.read_table(out).column("source").to_pylist() == ["llada_exp", "guidellm"]


def test_a_folder_without_rows_and_rows_of_another_version_are_refused(tmp_path, capsys):
    assert main([str(tmp_path / "out"), str(tmp_path)]) == 2
    assert "is the sweep finished?" in capsys.readouterr().err
    (tmp_path / "row.jsonl").write_text(json.dumps({"schema_version": 0}))
    assert main([str(tmp_path / "out"), str(tmp_path)]) == 2
    assert "another version" in capsys.readouterr().err
