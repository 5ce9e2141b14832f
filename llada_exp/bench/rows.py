"""Results on disk: parquet and JSON lines of one schema, written before anything else is done with them.

A point's folder holds requests, repeats, row, status.json, config.yaml and schema.json. What was
measured is appended as it comes, so that a crash keeps it. Knows files, nothing of how they came about.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from llada_exp.bench.client import Record
from llada_exp.bench.schema import COMMIT, REQUEST, ROW, VERSION, Column, arrow, describe

SUMMARY = "summary"


def request_row(record: Record, repeat: int) -> dict[str, Any]:
    """A request's line: no prompt and no answer."""
    names = {column.name for column in REQUEST}
    own = {name: value for name, value in vars(record).items() if name in names}
    cost = {name: record.cost.get(name) for name in ("nfe", "num_positions", "queue_ms", "seed")}
    return {**own, **cost, "repeat": repeat, "lag_ms": record.lag_ms}


def commit_rows(record: Record, repeat: int) -> list[dict[str, Any]]:
    """One line a committed token; [] for a request without a trace."""
    told = record.decoding
    length = told.get("block_length") or 1
    same = {
        "repeat": repeat,
        "index": record.index,
        "rule": told.get("rule"),
        "cache": told.get("cache"),
        "refresh": told.get("refresh") if told.get("cache") != "none" else None,
        "answer": record.text,
    }
    return [
        {**same, "step": c["step"], "position": p, "block": p // length, "token_id": t, "confidence": f}
        for c in record.cost.get("trace") or ()
        for p, t, f in zip(c["positions"], c["token_ids"], c["confidences"], strict=True)
    ]


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

    def add_request(self, record: Record, repeat: int) -> None:
        """Appended at once."""
        if self._requests is None:
            self._requests = (self.folder / "requests.jsonl").open("a", buffering=1)
        self._requests.write(json.dumps(request_row(record, repeat)) + "\n")

    def add_repeat(self, measures: Mapping[str, Any], records: Sequence[Record], repeat: int) -> None:
        _append(self.folder / "repeats.jsonl", [{"repeat": repeat, **measures}])
        _append(self.folder / "commits.jsonl", [c for r in records for c in commit_rows(r, repeat)])

    def finish(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Write the point's row, and everything as parquet too. Returns the whole row."""
        self.close()
        whole = complete(row)
        _append(self.folder / "row.jsonl", [whole])
        to_parquet(self.folder / "row.parquet", [whole], ROW)
        for name, columns in (("requests", REQUEST), ("commits", COMMIT)):
            if (self.folder / f"{name}.jsonl").is_file():
                to_parquet(
                    self.folder / f"{name}.parquet", read_jsonl(self.folder / f"{name}.jsonl"), columns
                )
        return whole

    def close(self) -> None:
        if self._requests is not None:
            self._requests.close()
            self._requests = None


def complete(row: Mapping[str, Any]) -> dict[str, Any]:
    """Every column of the schema, None where the row has none, and no other."""
    unknown = set(row) - {column.name for column in ROW}
    assert not unknown, f"columns that the schema lacks: {sorted(unknown)}"
    return {c.name: VERSION if c.name == "schema_version" else row.get(c.name) for c in ROW}


def to_parquet(path: Path, rows: Sequence[Mapping[str, Any]], columns: tuple[Column, ...]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=arrow(columns)), draft)
    os.replace(draft, path)


def write_summary(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """All rows of a sweep in one parquet and one jsonl; the parquet's path."""
    text = "".join(json.dumps(dict(row)) + "\n" for row in rows)
    write_whole(folder / f"{SUMMARY}.jsonl", text)
    to_parquet(folder / f"{SUMMARY}.parquet", rows, ROW)
    return folder / f"{SUMMARY}.parquet"


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def write_whole(path: Path, text: str) -> None:
    """Readers see the old file or the new one, never half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    os.replace(draft, path)


def _append(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(dict(row)) + "\n" for row in rows)
    if text:
        with path.open("a") as file:
            file.write(text)
