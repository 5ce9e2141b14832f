"""The documents' tables are what the declarations make of them, or what was measured."""

import csv
import json
from pathlib import Path

import pytest

from docs.tables import DOCS, FILES, MEASURED, README, TABLES, current, renewed
from llada_exp.bench import schema as bench
from llada_exp.evals import schema as evals
from llada_exp.types import CACHES, REFRESH, REMASKING, RULES

DECODING = (DOCS / "decoding.md").read_text()
DOCUMENTS = (README, *sorted(DOCS.glob("*.md")))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(README.parent)))
def test_a_documents_tables_are_as_declared(path: Path):
    assert renewed(path.read_text()) == path.read_text(), "python docs/tables.py writes them"


def test_every_table_is_in_a_document():
    texts = [path.read_text() for path in DOCUMENTS]
    for name in TABLES:
        assert sum(f"<!-- table: {name} -->\n" in text for text in texts) == 1, name


@pytest.mark.parametrize("name", FILES)
def test_a_long_tables_file_is_as_declared(name):
    assert (DOCS / "data" / name).read_text() == FILES[name](), "python docs/tables.py writes it"


def test_every_column_of_every_file_of_rows_is_in_the_schemas_words():
    with (DOCS / "data" / "columns.csv").open(newline="") as file:
        _, *written = csv.reader(file)
    declared = (bench.ROW, bench.REQUEST, bench.COMMIT, evals.ROW)
    assert [line[1:] for line in written] == [[c.name, c.type, c.meaning] for part in declared for c in part]


def test_the_pictures_setting_is_the_sweeps():
    """Prevents a table of points that the experiment does not measure."""
    rows = [json.loads(line) for line in MEASURED.read_text().splitlines()]
    assert {row["load"] for row in rows} == {"closed", "open"}
    assert not any(row["failed"] or row["overlapped"] for row in rows)
    vanilla = [row for row in rows if row["rule"] == "fixed"]
    for cache in ("none", "dual"):
        same = {row["accuracy"] for row in vanilla if row["load"] == "closed" and row["cache"] == cache}
        assert len(same) == 1, "batches answer alike"


def test_a_stale_table_is_seen_and_only_it_is_written():
    text = f"before\n\n<!-- table: every decoding field -->\n| old |\n\nafter\n\n{'x'}\n"
    new = renewed(text)
    assert new.startswith("before\n\n<!-- table: every decoding field -->\n| field |")
    assert new.endswith("\n\nafter\n\nx\n")
    assert renewed(new) == new
    assert "| `rule` |" in current(new, "every decoding field")


def test_every_choice_has_its_source():
    sources = current(DECODING, "sources")
    for choice in (*RULES, *CACHES, *REFRESH, *REMASKING):
        assert f"`{choice}`" in sources, f"{choice} has no line in docs/decoding.md's table of sources"
