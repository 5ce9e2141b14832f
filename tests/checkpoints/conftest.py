import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

REFERENCE = Path(__file__).parents[1] / "reference"


@pytest.fixture
def single() -> Path:
    """A whole checkpoint in one file; not to be written to."""
    return REFERENCE / "llada-random-a"


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[str], Path]:
    """A copy that a test may break: "a" is one file, "b" is sharded."""

    def copy(which: str) -> Path:
        ignore = shutil.ignore_patterns("expected.*")
        return Path(shutil.copytree(REFERENCE / f"llada-random-{which}", tmp_path / which, ignore=ignore))

    return copy
