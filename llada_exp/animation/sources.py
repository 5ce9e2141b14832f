"""Where a trace comes from: a file of rows that the benchmark wrote, or a server that is asked now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as pq

from llada_exp import jsonl
from llada_exp.bench.client import RequestRecord
from llada_exp.bench.rows import commit_rows
from llada_exp.clients.http import base_url, environment_key, open_url, read_json
from llada_exp.clients.reply import read_reply

TIMEOUT_S = 600.0
VANILLA = "rule=fixed cache=none"
"""One token a pass: what others are held against."""


def read_rows(path: Path | str) -> list[dict[str, Any]]:
    """The first request's rows of a `commits.parquet` or `commits.jsonl`. Raises ValueError for another kind
    of file, and OSError where it cannot be read."""
    path = Path(path)
    try:
        rows = jsonl.read(path) if path.suffix == ".jsonl" else pq.read_table(path).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path}: neither rows of parquet nor JSON lines ({error})") from None
    if not rows or not {"index", "repeat"} <= set(rows[0]):
        raise ValueError(f"{path}: no rows of commits; expected commits.parquet of decoding.trace=true")
    first = min((row["repeat"], row["index"]) for row in rows)
    return [row for row in rows if (row["repeat"], row["index"]) == first]


def ask(
    url: str, question: str, fields: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S
) -> list[dict[str, Any]]:
    """Ask a server one question with these fields of decoding; the rows of its trace. The key is the
    environment's. Raises RequestFailed, a RuntimeError, and ValueError for a server that gives no trace."""
    base = base_url(url)
    body = {"messages": [{"role": "user", "content": question}], "seed": 0, **fields, "trace": True}
    address = f"{base}/v1/chat/completions"
    with open_url(address, key=environment_key(), body=body, timeout_s=timeout_s) as response:
        reply = read_reply(read_json(response, address, timeout_s))
    record = RequestRecord(0, 0.0, prompt=question, text=reply.text, cost=reply.cost, decoding=reply.decoding)
    if not (rows := commit_rows(record, 0)):
        raise ValueError(f"{base} gives no trace of its answers; is it a server of llada_exp?")
    return rows


def fields(words: str) -> dict[str, Any]:
    """`name=value name=value` as fields of a request; what is no JSON is a text. Raises ValueError."""
    tree: dict[str, Any] = {}
    for word in words.split():
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"a setting has {word!r}; expected name=value")
        try:
            tree[name] = json.loads(value)
        except ValueError:
            tree[name] = value
    return tree
