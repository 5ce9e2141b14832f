"""What docs/ repeat of the code is the code's own words."""

from pathlib import Path

import pytest

from llada_exp.bench import schema
from llada_exp.bench.settings import ARRIVALS, WORKLOADS
from llada_exp.runs.settings import TRACKING

BENCHMARKS = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()


@pytest.mark.parametrize("table", ["ROW", "REQUEST", "COMMIT"])
def test_every_column_is_documented_in_the_schemas_words_and_no_other_is(table):
    columns = getattr(schema, table)
    lines = [f"| `{c.name}` | {c.type} | {c.meaning} |" for c in columns]
    assert "\n".join(lines) in BENCHMARKS


def test_no_column_is_documented_that_is_not_there():
    known = {f"| `{c.name}` |" for t in (schema.ROW, schema.REQUEST, schema.COMMIT) for c in t}
    _, _, tables = BENCHMARKS.partition("## Columns of a row")
    found = [line for line in tables.splitlines() if line.startswith("| `")]
    assert len(found) == len(schema.ROW) + len(schema.REQUEST) + len(schema.COMMIT)
    assert all(any(line.startswith(k) for k in known) for line in found)


def test_every_workload_arrival_and_way_of_tracking_is_documented():
    for name in WORKLOADS:
        assert f"| `{name}` |" in BENCHMARKS
    for name in ARRIVALS:
        assert name in BENCHMARKS
    for name in TRACKING:
        assert f"tracking={name}" in BENCHMARKS or f"`{name}`" in BENCHMARKS
