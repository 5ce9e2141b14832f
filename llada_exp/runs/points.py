"""The points of a sweep, and the folders that they lie in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, Node


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


def check_places(config: DictConfig) -> None:
    """Raises ValueError for a folder of Hydra's that a sweep has another one for."""
    subdir = config.hydra.sweep._get_node("subdir")
    if isinstance(subdir, Node) and subdir._value() != "${hydra.job.num}":
        raise ValueError(
            f"hydra.sweep.subdir is {subdir._value()!r}; points' folders are named by what differs between"
            " them, inside the sweep's: expected hydra.sweep.dir, or nothing"
        )
    if any(word.lstrip("+").startswith("hydra.run.dir=") for word in config.hydra.overrides.hydra):
        raise ValueError("hydra.run.dir is set; it is of a single run: expected hydra.sweep.dir with -m")


def roots(points: Sequence[Point]) -> list[Path]:
    """One folder, unless the points' names differ."""
    return list(dict.fromkeys(point.root for point in points))
