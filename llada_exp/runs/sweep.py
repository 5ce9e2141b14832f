"""A sweep: every point is checked before any runs, and the summary says what became of each.

Hydra's basic sweeper, and around it: a stable folder per point; points of one server next to each other;
`dry_run`, `resume`; a summary made of what the points wrote, whichever way the launcher ran them; an
exit code that is not zero where a point failed. What a point is, the program's `Task` says.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, flag_override

from llada_exp import jsonl
from llada_exp.jobs.submit import SbatchRefused
from llada_exp.runs import files, queued, status, tracking
from llada_exp.runs.claim import FolderRefused, check_sweeps_folder, is_default_name, names
from llada_exp.runs.lock import FolderTaken, taking
from llada_exp.runs.points import Point, roots
from llada_exp.runs.queued import PointJobs
from llada_exp.runs.servers import sharing
from llada_exp.runs.task import ROW, Task, claim, go_on_hint, prepare
from llada_exp.signals import terminable

SUMMARY = "summary"
"""summary.jsonl, summary.parquet and summary.txt of a sweep."""


class Sweep:
    """One multirun of a task. config: Hydra's, of the sweep; loader: composes each point; launcher: runs
    them."""

    def __init__(self, task: Task, config: DictConfig, loader: ConfigLoader, launcher: Launcher) -> None:
        self.task = task
        self.config = config
        self.loader = loader
        self.launcher = launcher
        names_of_pace = ("poll_s", "late_s", "signal_s")
        params: Mapping[str, Any] = getattr(launcher, "params", {})
        self.jobs = PointJobs(**{name: params[name] for name in names_of_pace if name in params})

    def run(self, overrides: Sequence[list[str]]) -> list[Any]:
        """Run the points that the lists of overrides, some of many values, stand for. Raises ValueError
        naming the first bad one before any runs, SystemExit(1) at the end where one failed."""
        check_sweeps_folder(self.config.hydra)
        points: Sequence[Point] = self._together(self._points(overrides))
        if points[0].settings.dry_run:
            print(self._plan(points))
            return []
        tracking.check(points[0].settings.tracking)
        with ExitStack() as stack:
            points, live = self._enter(stack, points, overrides)
            stack.enter_context(go_on_hint(self.task, points[0].settings.name, roots(points)[0]))
            num_failed = self._run(points, live)
        if num_failed:
            raise SystemExit(1)
        return []

    def _enter(
        self, stack: ExitStack, points: Sequence[Point], overrides: Sequence[list[str]]
    ) -> tuple[Sequence[Point], dict[str, str]]:
        """The points, in folders that are ours while the stack lasts, and the jobs of an earlier start that
        are not over."""
        key = self.task.name_key
        name: str = points[0].settings.name
        unchosen = is_default_name(self.config, key) and all(p.root.name == name for p in points)
        for another in names(name):
            if another != name:
                words = [f"{key}='{another}'"]
                points = self._together(self._points([[*one, *words] for one in overrides]))
            attempt = ExitStack()
            try:
                live: dict[str, str] = {}
                for root in roots(points):
                    inside = {p.place: p.settings for p in points if p.root == root}
                    settings = next(iter(inside.values()))
                    live |= attempt.enter_context(claim(self.task, root, settings, inside).entered())
            except FolderRefused:
                attempt.close()
                if not unchosen:
                    raise
            except BaseException:
                attempt.close()
                raise
            else:
                stack.push(attempt)
                self._move(roots(points)[0])
                return points, live
        raise AssertionError("names do not end")

    def _move(self, root: Path) -> None:
        """Let the launcher use a root that the sweep's own configuration, of no point, may not know."""
        before = str(self.config.hydra.sweep.dir)
        with flag_override(self.config, ["readonly", "struct"], False):
            self.config.hydra.sweep.dir = str(root)
        params: dict[str, Any] = getattr(self.launcher, "params", {})
        if str(params.get("submitit_folder", "")).startswith(f"{before}/"):
            params["submitit_folder"] = str(root) + params["submitit_folder"].removeprefix(before)

    def _run(self, points: Sequence[Point], live: Mapping[str, str]) -> int:
        """How many points have no good end. live: jobs of an earlier start that are not over."""
        places = roots(points)
        for root in places:
            OmegaConf.save(self.config, root / "multirun.yaml")
        todo = [p for p in points if not self._finished(p)]
        print(f"{len(points)} points, {len(points) - len(todo)} finished before; rows go to {_words(places)}")
        sys.stdout.flush()
        place_of = {job: p.place for p in todo if (job := queued.job_of(p.place, live))}
        todo = [p for p in todo if p.place not in place_of.values()]
        try:
            # Of a job that no point's status names yet, nobody knows which of them it measures.
            self.jobs.wait({job: None for job in live if job not in place_of})
            todo = [p for p in todo if not self._finished(p)]
            for point in todo:
                self._forget(point)
            self._launch([p for p in todo if p.problem is None])
            self.jobs.wait(place_of)
        except SbatchRefused:
            raise  # nothing came of it, and there is nothing to sum up
        except BaseException:
            self._summarise(points)
            raise
        return self._summarise(points)

    def _forget(self, point: Point) -> None:
        """What an earlier try left must not be taken for this one's end. A process that still measures the
        point is waited for by the one that is to measure it."""
        if status.read(point.place):
            with suppress(FolderTaken), taking(point.place):
                if not self._finished(point):
                    (point.place / status.FILE).unlink(missing_ok=True)
        if point.problem is not None:
            status.failed(point.place, point.settings.config_hash, point.problem)

    def _finished(self, point: Point) -> bool:
        return self.task.finished(point.place, point.settings)

    def _launch(self, todo: Sequence[Point]) -> None:
        """An exception of the launcher itself (a job that was cancelled, say) ends no sweep: what became
        of the points, they say themselves."""
        if not todo:
            return
        in_process = isinstance(self.launcher, BasicLauncher)
        context: AbstractContextManager[None] = sharing() if in_process else nullcontext()
        batch = [[*p.overrides, f"hydra.sweep.subdir='{p.folder}'"] for p in todo]
        if hasattr(self.launcher, "listener"):
            self.jobs.places = [(p.place, p.settings.config_hash) for p in todo]
            self.launcher.listener = self.jobs
        try:
            with terminable(), context:
                self.launcher.launch(batch, initial_job_idx=0)
        except SbatchRefused:
            raise
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
        composed = self._compose(overrides)
        for variant in self.task.variants(plain(composed)):
            whole = (*overrides, *variant.overrides)
            name = self.task.folder_name(number + len(points), swept)
            if variant.name:
                name = "_".join(part for part in (variant.name, name[4:]) if part)
            config = self._compose(whole) if variant.overrides else composed  # 0.3 s of each point
            settings = self.task.validate(plain(config))
            prepare(self.task, settings, whole)
            points.append(Point(Path(config.hydra.sweep.dir), name, whole, settings, variant.problem))
        return points

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        return self.loader.load_sweep_config(self.config, list(overrides))

    def _together(self, points: Sequence[Point]) -> list[Point]:
        """Points of one server next to each other, else in the order given."""
        order = list(dict.fromkeys(self.task.server_of(p.settings) for p in points))
        return sorted(points, key=lambda p: order.index(self.task.server_of(p.settings)))

    def _plan(self, points: Sequence[Point]) -> str:
        lines = []
        for point in points:
            note = "  finished" * self._finished(point)
            note += f"  cannot run: {point.problem}" if point.problem else ""
            lines.append(self.task.plan_line(point.place, point.settings) + note)
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
        ended = {p.place: status.verdict(p.place) for p in sorted(points, key=lambda p: p.place)}
        places = roots(points)
        for root in places:
            self._sum_up(
                root, [p for p, (state, _) in ended.items() if p.parent == root and state == status.OK]
            )
        live = self._live(points, [place for place, (state, _) in ended.items() if state != status.OK])
        for place, (state, why) in ended.items():
            name = place.name if len(places) == 1 else f"{place.parent.name}/{place.name}"
            if job := live.get(place):
                print(f"not over: {name}: job {job} goes on; resume=true waits for it", file=sys.stderr)
            elif state != status.OK:
                see = f"; see {place}" if place.is_dir() else ""
                print(f"{state}: {name}: {why}{see}", file=sys.stderr)
        return sum(state != status.OK for state, _ in ended.values())

    def _sum_up(self, root: Path, good: Sequence[Path]) -> None:
        """The summary of a sweep's folder, of its points that came to their end."""
        rows = [row for place in good for row in jsonl.read(place / f"{ROW}.jsonl")]
        rows.sort(key=self.task.order)
        table, notes = self.task.summary(root, rows)
        if table.rows:
            print()
            table.show(root / f"{SUMMARY}.txt")
        if rows:
            path = files.write_rows(root / SUMMARY, rows, self.task.columns, self.task.version)
            notes = [*notes, f"rows: {path}"]
        print(*notes, sep="\n", flush=True)

    def _live(self, points: Sequence[Point], places: Sequence[Path]) -> dict[Path, str]:
        """Folders among these whose job goes on, as after a Ctrl-C -> that job."""
        live: dict[str, str] = {}
        with suppress(ValueError):
            for root in roots(points) if places else ():
                live |= queued.live_jobs(root, [place for place in places if place.parent == root])
        return {place: job for place in places if (job := queued.job_of(place, live))}


def _words(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The composed tree without Hydra's own part."""
    tree = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    return OmegaConf.to_container(tree, resolve=True)  # type: ignore[return-value]
