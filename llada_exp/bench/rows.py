"""Results on disk: parquet and JSON lines of one schema, written before anything else is done with them.

A point's folder holds requests, repeats, row, status.json, config.yaml and schema.json. What was
measured is appended as it comes, so that a crash keeps it. Knows files, nothing of how they came about.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from llada_exp import jsonl
from llada_exp.bench.client import RequestRecord
from llada_exp.bench.schema import COMMIT, REQUEST, ROW, VERSION, describe
from llada_exp.runs import files
from llada_exp.runs.files import append, to_parquet, write_whole


def request_row(record: RequestRecord, repeat: int) -> dict[str, Any]:
    """A request's line: no prompt and no answer."""
    names = {column.name for column in REQUEST}
    fields = {name: value for name, value in vars(record).items() if name in names}
    cost = {name: record.cost.get(name) for name in ("nfe", "num_positions", "queue_ms", "seed")}
    return {**fields, **cost, "repeat": repeat, "lag_ms": record.lag_ms}


def commit_rows(record: RequestRecord, repeat: int) -> list[dict[str, Any]]:
    """One line a token that was committed or taken back; [] for a request without a trace."""
    decoding = record.decoding
    length = decoding.get("block_length") or 1
    same = {
        "repeat": repeat,
        "index": record.index,
        "passes": record.cost.get("nfe"),
        "rule": decoding.get("rule"),
        "cache": decoding.get("cache"),
        "refresh": decoding.get("refresh") if decoding.get("cache") != "none" else None,
        "decoding": json.dumps(dict(decoding)),
        "question": record.prompt,
        "answer": record.text,
    }
    return [
        {**same, "step": c["step"], "position": line[0], "block": line[0] // length,
         **dict(zip(("token_id", "token", "confidence", "revoked"), line[1:], strict=True))}
        for c in record.cost.get("trace") or ()
        for line in _lines(c)
    ]  # fmt: skip


def _lines(commit: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """position, token_id, token, confidence, revoked; what is taken back comes first, as in the engine."""
    tokens = commit.get("tokens") or [None] * len(commit["positions"])
    columns = (commit["positions"], commit["token_ids"], tokens, commit["confidences"])
    written = [(*line, False) for line in zip(*columns, strict=True)]
    return [(place, None, None, None, True) for place in commit.get("remasked") or ()] + written


class PointFolder:
    """Where one point's results go. Earlier results of the same folder are replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("requests", "repeats", "row", "commits"):
            for end in ("jsonl", "parquet"):
                (folder / f"{name}.{end}").unlink(missing_ok=True)
        write_whole(folder / "schema.json", json.dumps(describe(), indent=1) + "\n")
        self._requests: IO[str] | None = None

    def add_request(self, record: RequestRecord, repeat: int) -> None:
        """Appended at once."""
        if self._requests is None:
            self._requests = (self.folder / "requests.jsonl").open("a", buffering=1)
        self._requests.write(json.dumps(request_row(record, repeat)) + "\n")

    def add_verdicts(self, records: Sequence[RequestRecord], repeat: int) -> None:
        """Of requests that are written already, and could not be judged then."""
        self.close()
        late = {record.index: record.correct for record in records}
        path = self.folder / "requests.jsonl"
        rows = [
            row | {"correct": late[row["index"]]} if row["repeat"] == repeat and row["index"] in late else row
            for row in jsonl.read(path)
        ]
        write_whole(path, files.to_jsonl(rows))

    def add_repeat(self, measures: Mapping[str, Any], records: Sequence[RequestRecord], repeat: int) -> None:
        append(self.folder / "repeats.jsonl", [{"repeat": repeat, **measures}])
        append(self.folder / "commits.jsonl", [c for r in records for c in commit_rows(r, repeat)])

    def finish(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Write the point's row, and everything as parquet too. Returns the whole row."""
        self.close()
        whole = complete(row)
        files.write_rows(self.folder / "row", [whole], ROW, VERSION)
        for name, columns in (("requests", REQUEST), ("commits", COMMIT)):
            if (self.folder / f"{name}.jsonl").is_file():
                lines = jsonl.read(self.folder / f"{name}.jsonl")
                to_parquet(self.folder / f"{name}.parquet", lines, columns, VERSION)
        return whole

    def close(self) -> None:
        if self._requests is not None:
            self._requests.close()
            self._requests = None


def has_results(folder: Path) -> bool:
    """Whether a request was answered there, or a row written."""
    is_row = files.any_line(folder / "row.jsonl", lambda row: True)
    return is_row or files.any_line(folder / "requests.jsonl", lambda request: bool(request.get("ok")))


def complete(row: Mapping[str, Any]) -> dict[str, Any]:
    """Every column of the schema, None where the row has none, and no other."""
    return files.complete(row, ROW, VERSION)
