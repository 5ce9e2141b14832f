"""Results on disk: one schema, whole in parquet, and nothing lost by a crash."""

import json

import pyarrow.parquet as pq
import pytest

from llada_exp import jsonl
from llada_exp.bench import schema
from llada_exp.bench.client import RequestRecord
from llada_exp.bench.rows import PointFolder, complete
from llada_exp.runs import status
from llada_exp.runs.files import write_rows

TRACE = [
    {"step": 0, "positions": [0, 33], "token_ids": [5, 6], "confidences": [0.9, 0.8]},
    {"step": 1, "positions": [1], "token_ids": [7], "confidences": [0.7]},
]


def record(index, **fields):
    return RequestRecord(
        index, 0.0, 0.1, 0.5, True, itl_ms=[1.0, 2.0], e2el_ms=400.0, text="secret answer", **fields
    )


def test_a_row_has_every_column_and_parquet_and_jsonl_agree(tmp_path):
    row = PointFolder(tmp_path).finish(
        {"point": "a", "batch_size": 4, "output_throughput": 12.5, "stream": True}
    )
    assert list(row) == [c.name for c in schema.ROW]
    table = pq.read_table(tmp_path / "row.parquet")
    assert table.to_pylist() == [row] == [json.loads((tmp_path / "row.jsonl").read_text())]
    assert row["schema_version"] == schema.VERSION
    assert row["accuracy"] is None, "what was not measured is null"
    assert table.schema.field("output_throughput").metadata[b"meaning"]


def test_a_column_that_the_schema_lacks_is_refused():
    with pytest.raises(AssertionError, match="wibble"):
        complete({"wibble": 1})


def test_the_schema_is_written_beside_the_rows_and_names_no_column_twice(tmp_path):
    PointFolder(tmp_path)
    told = json.loads((tmp_path / "schema.json").read_text())
    assert told == schema.describe()
    for table in ("row", "request", "commit"):
        names = [c["name"] for c in told[table]]
        assert len(names) == len(set(names))


def test_what_was_measured_before_a_crash_is_on_disk(tmp_path):
    point = PointFolder(tmp_path)
    point.add_request(record(0), 0)  # and nothing is closed
    (line,) = (tmp_path / "requests.jsonl").read_text().splitlines()
    assert json.loads(line)["e2el_ms"] == 400.0


def test_a_verdict_that_came_after_the_load_reaches_its_request(tmp_path):
    """Prevents answers that only math-verify can judge from staying without a verdict on disk."""
    point = PointFolder(tmp_path)
    for repeat in (0, 1):
        for index in (0, 1):
            point.add_request(record(index, correct=True if index else None), repeat)
    point.add_verdicts([record(0, correct=False)], 1)
    point.add_request(record(0, correct=True), 2)
    rows = jsonl.read(tmp_path / "requests.jsonl")
    verdicts = [(row["repeat"], row["index"], row["correct"]) for row in rows]
    assert verdicts == [(0, 0, None), (0, 1, True), (1, 0, False), (1, 1, True), (2, 0, True)]


def test_requests_hold_no_text(tmp_path):
    point = PointFolder(tmp_path)
    point.add_request(record(0, prompt="secret question"), 0)
    point.finish({})
    assert "secret" not in (tmp_path / "requests.jsonl").read_text()
    (row,) = pq.read_table(tmp_path / "requests.parquet").to_pylist()
    assert (row["itl_ms"], row["lag_ms"], row["repeat"]) == ([1.0, 2.0], 100.0, 0)


def test_a_trace_becomes_a_line_a_committed_token(tmp_path):
    point = PointFolder(tmp_path)
    decoding = {"rule": "threshold", "cache": "none", "refresh": "every_block", "block_length": 32}
    point.add_repeat({}, [record(3, cost={"trace": TRACE}, decoding=decoding)], 0)
    point.finish({})
    rows = pq.read_table(tmp_path / "commits.parquet").to_pylist()
    found = [(r["index"], r["step"], r["position"], r["block"], r["token_id"], r["confidence"]) for r in rows]
    assert found == [(3, 0, 0, 0, 5, 0.9), (3, 0, 33, 1, 6, 0.8), (3, 1, 1, 0, 7, 0.7)]
    assert {r["refresh"] for r in rows} == {r["token"] for r in rows} == {None}
    assert not any(r["revoked"] for r in rows)


def test_a_token_that_is_taken_back_is_a_line_before_what_its_pass_commits(tmp_path):
    """Prevents a trace from which the answer does not come again."""
    step = {"step": 4, "positions": [2], "token_ids": [7], "confidences": [0.7], "tokens": ["x"]}
    point = PointFolder(tmp_path)
    cost = {"trace": [{**step, "remasked": [1]}], "nfe": 5}
    point.add_repeat({}, [record(0, cost=cost, decoding={"block_length": 2}, prompt="what?")], 0)
    point.finish({})
    rows = pq.read_table(tmp_path / "commits.parquet").to_pylist()
    found = [(r["position"], r["block"], r["token_id"], r["token"], r["revoked"]) for r in rows]
    assert found == [(1, 0, None, None, True), (2, 1, 7, "x", False)]
    assert [(r["step"], r["passes"], r["question"]) for r in rows] == [(4, 5, "what?")] * 2
    assert json.loads(rows[0]["decoding"]) == {"block_length": 2}


def test_a_second_run_of_a_folder_replaces_the_first(tmp_path):
    for _ in range(2):
        point = PointFolder(tmp_path)
        point.add_request(record(0), 0)
        point.finish({"point": "a"})
    assert pq.read_table(tmp_path / "row.parquet").num_rows == 1
    assert pq.read_table(tmp_path / "requests.parquet").num_rows == 1


def test_a_summary_holds_every_row(tmp_path):
    rows = [complete({"point": name}) for name in ("a", "b")]
    path = write_rows(tmp_path / "summary", rows, schema.ROW, schema.VERSION)
    assert pq.read_table(path).column("point").to_pylist() == ["a", "b"]


@pytest.mark.parametrize(
    ("error", "state"), [(RuntimeError("no answer"), "failed"), (SystemExit(143), "interrupted")]
)
def test_a_points_end_is_told_with_its_traceback(error, state, tmp_path):
    def point():
        with status.recorded(tmp_path, "hash"):
            assert status.read(tmp_path)["status"] == "running"
            raise error

    with pytest.raises(type(error)):
        point()
    told = status.read(tmp_path)
    assert told["status"] == state
    traceback = told["traceback"].splitlines()
    assert "    raise error" in traceback if state == "failed" else traceback == [told["error"]]
    assert told["ended"] >= told["started"]
    assert not status.finished(tmp_path, "hash")
    assert status.verdict(tmp_path)[0] == state


def test_finished_means_this_very_configuration(tmp_path):
    with status.recorded(tmp_path, "hash"):
        pass
    assert status.finished(tmp_path, "hash")
    assert not status.finished(tmp_path, "another")


def test_a_killed_point_and_one_that_never_started_are_told(tmp_path):
    assert status.verdict(tmp_path) == ("failed", "never started")
    (tmp_path / "status.json").write_text(
        json.dumps({"status": "running", "started": "then", "host": "here"})
    )
    assert status.verdict(tmp_path)[0] == "interrupted"
    assert "killed" in status.verdict(tmp_path)[1]
