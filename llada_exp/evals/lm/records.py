"""What each request of an lm-eval run came to, kept on disk as it comes, so that a run goes on after a stop.

lm-eval gives back texts and numbers alone; cost, seed and finish reason stay here, by request. Knows
neither lm-eval nor a model.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llada_exp import jsonl
from llada_exp.evals.result import RequestCounts

TaskRecord = dict[str, Any]


@dataclass(frozen=True)
class RequestPlace:
    """Which request: the task's document, the request's number of that document (a choice), the sample."""

    task: str | None
    doc: int | None
    number: int
    sample: int


def fingerprint(*parts: Any) -> str:
    """Of everything that a request's outcome depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


class Records:
    """path: JSON lines, read if they are there and added to; None: memory alone. A last line that was cut
    off with its process is dropped. Raises ValueError naming a file that holds anything else."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._by_key: dict[str, TaskRecord] = {}
        self._by_doc: defaultdict[tuple[str | None, int | None], dict[RequestPlace, TaskRecord]] = (
            defaultdict(dict)
        )
        self.num_before = 0
        if path is not None and path.is_file():
            self._by_key = _read(path)

    def get(self, place: RequestPlace, key: str) -> TaskRecord | None:
        """What the request came to in an earlier run; failures are asked again."""
        record = self._by_key.get(key)
        if record is None or record.get("error"):
            return None
        self.num_before += 1
        self._by_doc[place.task, place.doc][place] = record
        return record

    def put(self, place: RequestPlace, key: str, record: Mapping[str, Any]) -> None:
        self._by_key[key] = self._by_doc[place.task, place.doc][place] = dict(record)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write(json.dumps({"key": key, **record}) + "\n")

    def counts(self, task: str) -> RequestCounts:
        """Of a task's requests in this run."""
        records = [r for (name, _), of_doc in self._by_doc.items() if name == task for r in of_doc.values()]
        return RequestCounts(
            len(records),
            sum(bool(r.get("error")) for r in records),
            sum(bool(r.get("num_cut")) for r in records),
        )

    def of(self, task: str, doc: int) -> list[TaskRecord]:
        """A document's records, by request and sample."""
        records = self._by_doc[task, doc]
        return [records[place] for place in sorted(records, key=lambda p: (p.number, p.sample))]


def _read(path: Path) -> dict[str, TaskRecord]:
    data = path.read_bytes()
    os.truncate(path, data.rfind(b"\n") + 1)  # not written anew: a kill in between would lose all of it
    records: dict[str, TaskRecord] = {}
    for line in jsonl.lines(path):
        if not isinstance(line.tree.get("key"), str):
            raise ValueError(f"{line.place}: no record of an lm-eval run: without key")
        records[line.tree.pop("key")] = line.tree
    return records
