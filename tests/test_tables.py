"""The documents' tables of fields, keys and columns are what the declarations make."""

from pathlib import Path

import pytest

from docs.tables import DOCS, TABLES, current, renewed
from llada_exp.types import CACHES, REFRESH, REMASKING, RULES

DECODING = (DOCS / "decoding.md").read_text()


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_a_documents_tables_are_as_declared(path: Path):
    assert renewed(path.read_text()) == path.read_text(), "python docs/tables.py writes them"


def test_every_table_is_in_a_document():
    texts = [path.read_text() for path in DOCS.glob("*.md")]
    for name in TABLES:
        assert sum(f"<!-- table: {name} -->\n" in text for text in texts) == 1, name


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
        assert f"`{choice}`" in sources, choice


def test_the_readme_names_every_rule():
    """Its short table of request fields is written by hand."""
    rows = (DOCS.parent / "README.md").read_text().splitlines()
    row = next(line for line in rows if line.startswith("| `rule` |"))
    assert all(f"`{rule}`" in row for rule in RULES)
