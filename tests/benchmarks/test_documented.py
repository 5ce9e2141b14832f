"""What lies in benchmarks/ is in a document."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = [p.stem for p in (ROOT / "benchmarks").glob("*.py") if "__main__" in p.read_text()]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_named_with_what_it_answers(name):
    """Prevents benchmarks that nobody runs, because nobody finds them."""
    docs = (ROOT / "docs" / "benchmarks.md").read_text()
    assert re.search(rf"benchmarks[./]{name}\b", docs)
