"""A sweep: every point is checked before any runs, and the summary says what became of each.

Hydra's basic sweeper, and around it: a stable folder per point; points of one server next to each other;
`dry_run`, `resume`; a summary made of what the points wrote, whichever way the launcher ran them; an
exit code that is not zero where a point failed. What a point is, the program says: `Sweep` is derived from.
"""

from __future__ import annotations

import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from llada_exp.runs import status, tracking
from llada_exp.runs.process import terminable
from llada_exp.runs.servers import sharing
from llada_exp.runs.settings import Tracking

MAX_NAME = 150


class Settings(Protocol):
    """What a sweep wants to know of a point's settings."""

    @property
    def name(self) -> str: ...
    @property
    def resume(self) -> bool: ...
    @property
    def dry_run(self) -> bool: ...
    @property
    def tracking(self) -> Tracking: ...
    @property
    def config_hash(self) -> str: ...


@dataclass(frozen=True)
class Point:
    """folder: name inside the sweep's; overrides: Hydra's, of this point; problem: why it cannot run."""

    folder: str
    overrides: tuple[str, ...]
    settings: Any
    problem: str | None = None


@dataclass(frozen=True)
class Variant:
    """One of the points that a line of overrides stands for. name: of its folder, where it has its own."""

    overrides: tuple[str, ...] = ()
    name: str | None = None
    problem: str | None = None


class Sweep(ABC):
    """One multirun. config: Hydra's, of the sweep; loader: composes each point; launcher: runs them."""

    name_key = "name"
    """The key that names the sweep's folder."""

    def __init__(self, config: DictConfig, loader: ConfigLoader, launcher: Launcher) -> None:
        self.config = config
        self.loader = loader
        self.launcher = launcher
        self.root = Path(config.hydra.sweep.dir)

    @abstractmethod
    def validate(self, tree: dict[str, Any], overrides: Sequence[str]) -> Settings:
        """The settings of a point, composed with these overrides. Raises ValueError."""

    @abstractmethod
    def server_of(self, settings: Any) -> str:
        """Points of one such text can share one server start."""

    @abstractmethod
    def plan_line(self, folder: Path, settings: Any, note: str) -> str:
        """A point of a dry run."""

    @abstractmethod
    def header(self) -> str:
        """The line above the points' own, as they end."""

    @abstractmethod
    def report(self, good: Sequence[str]) -> None:
        """Print and write the summary of the finished points, named by folder."""

    def variants(self, tree: dict[str, Any]) -> list[Variant]:
        """The points that a composed line of overrides stands for. Raises ValueError."""
        return [Variant()]

    def folder_name(self, number: int, overrides: Sequence[str]) -> str:
        """Of a point: its number in the sweep, and what was swept."""
        told = ",".join(
            re.sub(r"[^\w.=+-]", "-", word.removeprefix("decoding.")) for word in overrides if word
        )
        return f"{number:03d}_{told}"[:MAX_NAME].rstrip("_")

    def check(self, points: Sequence[Point]) -> None:
        """Before anything runs. Raises ValueError where the folder holds what must not be mixed."""
        first = points[0].settings
        if not first.resume and any(self.root.glob("*/" + status.FILE)):
            raise ValueError(
                f"{self.name_key} is {first.name!r}; {self.root} holds results: resume=true goes on with them"
            )

    def run(self, overrides: Sequence[list[str]]) -> list[Any]:
        """Run the points that the lists of overrides, some of many values, stand for. Raises ValueError
        naming the first bad one before any runs, SystemExit(1) at the end where one failed."""
        points = self._together(self._points(overrides))
        first = points[0].settings
        if first.dry_run:
            print(self._plan(points))
            return []
        tracking.check(first.tracking)
        self.check(points)
        self.root.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, self.root / "multirun.yaml")
        todo = [p for p in points if not self._finished(p)]
        for point in todo:  # what an earlier try left must not be taken for this one's end
            (self.root / point.folder / status.FILE).unlink(missing_ok=True)
            if point.problem is not None:
                status.failed(self.root / point.folder, point.settings.config_hash, point.problem)
        print(f"{len(points)} points, {len(points) - len(todo)} finished before; rows go to {self.root}")
        print(self.header(), flush=True)
        try:
            self._launch([p for p in todo if p.problem is None])
        finally:
            num_failed = self._summarise(points)
        if num_failed:
            raise SystemExit(1)
        return []

    def _finished(self, point: Point) -> bool:
        return status.finished(self.root / point.folder, point.settings.config_hash)

    def _launch(self, todo: Sequence[Point]) -> None:
        """An exception of the launcher itself (a job that was cancelled, say) ends no sweep: what became
        of the points, they say themselves."""
        if not todo:
            return
        in_process = isinstance(self.launcher, BasicLauncher)
        context: AbstractContextManager[None] = sharing() if in_process else nullcontext()
        batch = [[*p.overrides, f"hydra.sweep.subdir='{p.folder}'"] for p in todo]
        try:
            with terminable(), context:
                self.launcher.launch(batch, initial_job_idx=0)
        except Exception as error:
            print(f"the launcher: {type(error).__name__}: {str(error)[:500]}", file=sys.stderr, flush=True)

    def _points(self, lists: Sequence[list[str]]) -> list[Point]:
        """In the order of the command line: the first key changes slowest."""
        parser = OverridesParser.create(config_loader=self.loader)
        batch: list[list[str]] = []
        for words in lists:
            batch += BasicSweeper.split_arguments(parser.parse_overrides(words), None)[0]
        same = set(batch[0]).intersection(*batch)
        points: list[Point] = []
        for overrides in batch:
            told = " ".join(word for word in overrides if word not in same)
            try:
                points += self._variants(overrides, told, len(points))
            except ValueError as error:
                raise ValueError(f"point {len(points)} ({told}): {error}" if told else str(error)) from None
        return points

    def _variants(self, overrides: Sequence[str], told: str, number: int) -> list[Point]:
        found: list[Point] = []
        for variant in self.variants(self._compose(overrides)):
            whole = (*overrides, *variant.overrides)
            own = self.folder_name(number + len(found), told.split(" "))
            name = "_".join(part for part in (variant.name, own[4:]) if part) if variant.name else own
            settings = self.validate(self._compose(whole), whole)
            found.append(Point(name, whole, settings, variant.problem))
        return found

    def _compose(self, overrides: Sequence[str]) -> dict[str, Any]:
        return plain(self.loader.load_sweep_config(self.config, list(overrides)))

    def _together(self, points: Sequence[Point]) -> list[Point]:
        """Points of one server next to each other, else in the order given."""
        order = list(dict.fromkeys(self.server_of(p.settings) for p in points))
        return sorted(points, key=lambda p: order.index(self.server_of(p.settings)))

    def _plan(self, points: Sequence[Point]) -> str:
        lines = []
        for point in points:
            note = "  finished" * self._finished(point)
            note += f"  cannot run: {point.problem}" if point.problem else ""
            lines.append(self.plan_line(self.root / point.folder, point.settings, note))
        num_starts = len({self.server_of(p.settings) for p in points})
        told = f"{len(points)} points, {num_starts} servers; launcher:"
        return "\n".join([*lines, told, self._how(points)])

    def _how(self, points: Sequence[Point]) -> str:
        """The batch script, of a launcher that has one."""
        if script := getattr(self.launcher, "script", None):
            return str(script(len(points)))
        return OmegaConf.to_yaml(self.config.hydra.launcher, resolve=True)

    def _summarise(self, points: Sequence[Point]) -> int:
        """Write the summary of every finished point, print it, name the others; how many those are."""
        ended = {
            p.folder: status.verdict(self.root / p.folder) for p in sorted(points, key=lambda p: p.folder)
        }
        good = [name for name, (state, _) in ended.items() if state == status.OK]
        self.report(good)
        for name, (state, why) in ended.items():
            if state != status.OK:
                print(f"{state}: {name}: {why}; see {self.root / name}", file=sys.stderr)
        return len(ended) - len(good)


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The composed tree without Hydra's own part."""
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    return OmegaConf.to_container(own, resolve=True)  # type: ignore[return-value]
