"""W&B as a mirror of the rows: they are on disk before anything here happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llada_exp.bench.client import LoadResult
from llada_exp.bench.settings import Tracking


def check(tracking: Tracking) -> None:
    """to come"""


def track(
    tracking: Tracking, folder: Path, row: Mapping[str, Any], results: Sequence[LoadResult], config: str
) -> None:
    """to come"""
