"""A sweep: every point is checked before any runs, and the summary says what became of each.

Hydra's basic sweeper, and around it: a stable folder per point; points of one server next to each other;
`dry_run`, `resume`; a summary made of what the points wrote, whichever way the launcher ran them; an
exit code that is not zero where a point failed.
"""

from __future__ import annotations

import re
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

from llada_exp.bench import report, status, tracking
from llada_exp.bench.point import terminable
from llada_exp.bench.rows import read_jsonl, write_summary
from llada_exp.bench.servers import sharing
from llada_exp.bench.settings import BenchSettings, server_key, validate_bench

MAX_NAME = 150


@dataclass(frozen=True)
class Point:
    """folder: name inside the sweep's; overrides: Hydra's, of this point."""

    folder: str
    overrides: tuple[str, ...]
    settings: BenchSettings


class Sweep:
    """One multirun. config: Hydra's, of the sweep; loader: composes each point; launcher: runs them."""

    def __init__(self, config: DictConfig, loader: ConfigLoader, launcher: Launcher) -> None:
        self.config = config
        self.loader = loader
        self.launcher = launcher

    def run(self, overrides: Sequence[list[str]]) -> list[Any]:
        """Run the points that the lists of overrides, some of many values, stand for. Raises ValueError
        naming the first bad one before any runs, SystemExit(1) at the end where one failed."""
        points = together(self._points(overrides))
        root = Path(self.config.hydra.sweep.dir)
        first = points[0].settings
        if first.dry_run:
            print(self._plan(root, points))
            return []
        tracking.check(first.tracking)
        if not first.resume and any(root.glob("*/" + status.FILE)):
            raise ValueError(f"name is {first.name!r}; {root} holds results: resume=true goes on with them")
        root.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, root / "multirun.yaml")
        todo = [p for p in points if not status.finished(root / p.folder, p.settings.config_hash)]
        for point in todo:  # what an earlier try left must not be taken for this one's end
            (root / point.folder / status.FILE).unlink(missing_ok=True)
        print(f"{len(points)} points, {len(points) - len(todo)} finished before; rows go to {root}")
        print(report.header(), flush=True)
        try:
            self._launch(todo)
        finally:
            failed = summarise(root, points)
        if failed:
            raise SystemExit(1)
        return []

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
        points = []
        for number, overrides in enumerate(batch):
            cfg = self.loader.load_sweep_config(self.config, list(overrides))
            told = " ".join(word for word in overrides if word not in same)
            try:
                settings = validate_bench(_plain(cfg))
            except ValueError as error:
                raise ValueError(f"point {number} ({told}): {error}") from None
            points.append(Point(folder_name(number, told.split(" ")), tuple(overrides), settings))
        return points

    def _plan(self, root: Path, points: Sequence[Point]) -> str:
        lines = []
        for point in points:
            before = status.finished(root / point.folder, point.settings.config_hash)
            lines.append(report.plan_line(root / point.folder, point.settings, "  finished" * before))
        num_starts = len({server_key(p.settings) for p in points})
        return "\n".join(
            [*lines, f"{len(points)} points, {num_starts} servers; launcher:", self._how(points)]
        )

    def _how(self, points: Sequence[Point]) -> str:
        """The batch script, of a launcher that has one."""
        assert self.config is not None
        if script := getattr(self.launcher, "script", None):
            return str(script(len(points)))
        return OmegaConf.to_yaml(self.config.hydra.launcher, resolve=True)


def together(points: Sequence[Point]) -> list[Point]:
    """Points of one server next to each other, else in the order given."""
    order = list(dict.fromkeys(server_key(p.settings) for p in points))
    return sorted(points, key=lambda p: order.index(server_key(p.settings)))


def folder_name(number: int, overrides: Sequence[str]) -> str:
    """Of a point: its number in the sweep, and what was swept."""
    told = ",".join(re.sub(r"[^\w.=+-]", "-", word.removeprefix("request.")) for word in overrides if word)
    return f"{number:03d}_{told}"[:MAX_NAME].rstrip("_")


def summarise(root: Path, points: Sequence[Point]) -> int:
    """Write the sweep's summary of every finished point, print it, name the others; how many those are."""
    ended = {p.folder: status.verdict(root / p.folder) for p in sorted(points, key=lambda p: p.folder)}
    good = [name for name, (state, _) in ended.items() if state == status.OK]
    rows = [row for name in good for row in read_jsonl(root / name / "row.jsonl")]
    print("\n" + report.table(rows))
    for name, (state, why) in ended.items():
        if state != status.OK:
            print(f"{state}: {name}: {why}; see {root / name}", file=sys.stderr)
    if rows:
        print(f"rows: {write_summary(root, rows)}", flush=True)
    return len(ended) - len(good)


def _plain(cfg: DictConfig) -> dict[str, Any]:
    """The composed tree without Hydra's own part."""
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    return OmegaConf.to_container(own, resolve=True)  # type: ignore[return-value]
