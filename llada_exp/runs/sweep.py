"""A sweep: every point is checked before any runs, and the summary says what became of each.

Hydra's basic sweeper, and around it: a stable folder per point; points of one server next to each other;
`dry_run`, `resume`; a summary made of what the points wrote, whichever way the launcher ran them; an
exit code that is not zero where a point failed. What a point is, the program's `Task` says.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from llada_exp import jsonl
from llada_exp.runs import files, status, tracking
from llada_exp.runs.process import terminable
from llada_exp.runs.servers import sharing
from llada_exp.runs.task import ROW, Task, check_resume, prepare

SUMMARY = "summary"
"""summary.jsonl, summary.parquet and summary.txt of a sweep."""


@dataclass(frozen=True)
class Point:
    """folder: name inside the sweep's; overrides: Hydra's, of this point; problem: why it cannot run."""

    folder: str
    overrides: tuple[str, ...]
    settings: Any
    problem: str | None = None


class Sweep:
    """One multirun of a task. config: Hydra's, of the sweep; loader: composes each point; launcher: runs
    them."""

    def __init__(self, task: Task, config: DictConfig, loader: ConfigLoader, launcher: Launcher) -> None:
        self.task = task
        self.config = config
        self.loader = loader
        self.launcher = launcher
        self.root = Path(config.hydra.sweep.dir)

    def run(self, overrides: Sequence[list[str]]) -> list[Any]:
        """Run the points that the lists of overrides, some of many values, stand for. Raises ValueError
        naming the first bad one before any runs, SystemExit(1) at the end where one failed."""
        points = self._together(self._points(overrides))
        first = points[0].settings
        if first.dry_run:
            print(self._plan(points))
            return []
        tracking.check(first.tracking)
        for point in points:
            self.task.check_folder(self.root / point.folder, point.settings)
        check_resume(self.task, self.root, first)
        self.root.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, self.root / "multirun.yaml")
        todo = [p for p in points if not self._finished(p)]
        for point in todo:  # what an earlier try left must not be taken for this one's end
            (self.root / point.folder / status.FILE).unlink(missing_ok=True)
            if point.problem is not None:
                status.failed(self.root / point.folder, point.settings.config_hash, point.problem)
        print(f"{len(points)} points, {len(points) - len(todo)} finished before; rows go to {self.root}")
        sys.stdout.flush()
        try:
            self._launch([p for p in todo if p.problem is None])
        finally:
            num_failed = self._summarise(points)
        if num_failed:
            raise SystemExit(1)
        return []

    def _finished(self, point: Point) -> bool:
        return self.task.finished(self.root / point.folder, point.settings)

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
            swept = [word for word in overrides if word not in same]
            try:
                points += self._variants(overrides, swept, len(points))
            except ValueError as error:
                raise ValueError(
                    f"point {len(points)} ({' '.join(swept)}): {error}" if swept else str(error)
                ) from None
        return points

    def _variants(self, overrides: Sequence[str], swept: Sequence[str], number: int) -> list[Point]:
        points: list[Point] = []
        for variant in self.task.variants(self._compose(overrides)):
            whole = (*overrides, *variant.overrides)
            name = self.task.folder_name(number + len(points), swept)
            if variant.name:
                name = "_".join(part for part in (variant.name, name[4:]) if part)
            settings = self.task.validate(self._compose(whole))
            prepare(self.task, settings, whole)
            points.append(Point(name, whole, settings, variant.problem))
        return points

    def _compose(self, overrides: Sequence[str]) -> dict[str, Any]:
        return plain(self.loader.load_sweep_config(self.config, list(overrides)))

    def _together(self, points: Sequence[Point]) -> list[Point]:
        """Points of one server next to each other, else in the order given."""
        order = list(dict.fromkeys(self.task.server_of(p.settings) for p in points))
        return sorted(points, key=lambda p: order.index(self.task.server_of(p.settings)))

    def _plan(self, points: Sequence[Point]) -> str:
        lines = []
        for point in points:
            note = "  finished" * self._finished(point)
            note += f"  cannot run: {point.problem}" if point.problem else ""
            lines.append(self.task.plan_line(self.root / point.folder, point.settings) + note)
        num_starts = len({self.task.server_of(p.settings) for p in points})
        lines.append(f"{len(points)} points, {num_starts} servers; launcher:")
        return "\n".join([*lines, self._how(points)])

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
        rows = [row for name in good for row in jsonl.read(self.root / name / f"{ROW}.jsonl")]
        rows.sort(key=self.task.order)
        table, notes = self.task.summary(self.root, rows)
        if table.rows:
            print()
            table.show(self.root / f"{SUMMARY}.txt")
        if rows:
            path = files.write_rows(self.root / SUMMARY, rows, self.task.columns, self.task.version)
            notes = [*notes, f"rows: {path}"]
        print(*notes, sep="\n", flush=True)
        for name, (state, why) in ended.items():
            if state != status.OK:
                print(f"{state}: {name}: {why}; see {self.root / name}", file=sys.stderr)
        return len(ended) - len(good)


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The composed tree without Hydra's own part."""
    tree = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    return OmegaConf.to_container(tree, resolve=True)  # type: ignore[return-value]
