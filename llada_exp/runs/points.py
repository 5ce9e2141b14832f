"""The points of a sweep, and the folders that they lie in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Point:
    """root: the sweep's folder, by the name that this point's configuration has; folder: name inside it;
    overrides: Hydra's, of this point; problem: why it cannot run."""

    root: Path
    folder: str
    overrides: tuple[str, ...]
    settings: Any
    problem: str | None = None

    @property
    def place(self) -> Path:
        return self.root / self.folder


def roots(points: Sequence[Point]) -> list[Path]:
    """One folder, unless the points' names differ."""
    return list(dict.fromkeys(point.root for point in points))
