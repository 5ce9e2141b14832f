"""Results on disk: JSON lines and parquet with named, typed, explained columns.

Knows files, nothing of what the rows are about.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llada_exp import jsonl

TYPES = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64(), "flag": pa.bool_(),
         "numbers": pa.list_(pa.float64())}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """type: a key of TYPES."""

    name: str
    type: str
    meaning: str


def columns(*rows: tuple[str, str, str]) -> tuple[Column, ...]:
    return tuple(Column(*row) for row in rows)


def complete(row: Mapping[str, Any], table: Sequence[Column], version: int) -> dict[str, Any]:
    """Every column of the table, None where the row has none, and no other."""
    unknown = set(row) - {column.name for column in table}
    assert not unknown, f"columns that the schema lacks: {sorted(unknown)}"
    return {c.name: version if c.name == "schema_version" else row.get(c.name) for c in table}


def arrow(table: Sequence[Column], version: int) -> pa.Schema:
    """With every column's meaning, and the version, in the file's metadata."""
    fields = [pa.field(c.name, TYPES[c.type], metadata={"meaning": c.meaning}) for c in table]
    return pa.schema(fields, metadata={"schema_version": str(version)})


def to_parquet(path: Path, rows: Sequence[Mapping[str, Any]], table: Sequence[Column], version: int) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=arrow(table, version)), draft)
    os.replace(draft, path)


def write_rows(stem: Path, rows: Sequence[Mapping[str, Any]], table: Sequence[Column], version: int) -> Path:
    """The rows as <stem>.jsonl and <stem>.parquet; the parquet's path."""
    write_whole(stem.with_name(f"{stem.name}.jsonl"), to_jsonl(rows))
    parquet = stem.with_name(f"{stem.name}.parquet")
    to_parquet(parquet, rows, table, version)
    return parquet


def to_jsonl(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(dict(row)) + "\n" for row in rows)


def append(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    if text := to_jsonl(rows):
        with path.open("a") as file:
            file.write(text)


def any_line(path: Path, is_one: Callable[[Mapping[str, Any]], bool]) -> bool:
    """Whether a file of JSON lines holds such an object; a file that cannot be read as such counts as one
    that does."""
    try:
        return path.is_file() and any(is_one(line.tree) for line in jsonl.lines(path, jsonl.LAST))
    except ValueError:
        return True


def write_whole(path: Path, text: str) -> None:
    """Readers see the old file or the new one, never half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    os.replace(draft, path)
