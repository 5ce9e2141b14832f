"""Put the rows of several runs, sweeps and other tools' results into one parquet.

    python -m llada_exp.bench.collect all.parquet outputs/bench/a outputs/bench/b guidellm.json

A folder counts with its summary.jsonl, or with its row.jsonl where it is a single run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llada_exp import jsonl
from llada_exp.bench.foreign import read_foreign
from llada_exp.bench.schema import ROW, VERSION
from llada_exp.bench.soundness import is_sound
from llada_exp.programs import run_program
from llada_exp.runs.files import to_parquet


def collect(sources: Sequence[Path]) -> list[dict[str, Any]]:
    """All rows. Raises ValueError naming a source that holds none, or rows of another version."""
    return [
        row for source in sources for row in (_folder(source) if source.is_dir() else read_foreign(source))
    ]


def _folder(folder: Path) -> list[dict[str, Any]]:
    for name in ("summary.jsonl", "row.jsonl"):
        if (folder / name).is_file():
            rows = jsonl.read(folder / name)
            if bad := [row for row in rows if not is_sound(row)]:
                raise ValueError(f"{folder / name}: a failed point, {bad[0]['problem']}")
            if any(row["schema_version"] != VERSION for row in rows):
                raise ValueError(f"{folder / name}: rows of another version than {VERSION}")
            return rows
    raise ValueError(f"{folder}: neither summary.jsonl nor row.jsonl is there; is the sweep finished?")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m llada_exp.bench.collect",
        description="Put rows of runs, sweeps, and results of guidellm and aiperf into one parquet.",
    )
    parser.add_argument("out", type=Path, help="the parquet to write")
    parser.add_argument(
        "sources",
        type=Path,
        nargs="+",
        help="folders under outputs/bench/, or JSON reports of guidellm and aiperf",
    )
    args = parser.parse_args(argv)
    try:
        rows = collect(args.sources)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    to_parquet(args.out, rows, ROW, VERSION)
    print(f"{len(rows)} rows: {args.out}")
    return 0


if __name__ == "__main__":
    run_program(main)
