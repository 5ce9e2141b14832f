"""One measured point or one evaluation, alone or in a sweep: the skeleton of both.

The folder is free or resumed, what is finished is not done again, the status says what became of it whatever
ends it, rows are on disk before W&B hears of them, and the exit code tells. What is measured, and in which
words, the program says in its `Task`. Knows Hydra, and neither benchmarks nor evaluations.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from llada_exp import jsonl
from llada_exp.runs import status, tracking
from llada_exp.runs.claim import Claim, FolderRefused, check_runs_folder, is_default_name, names
from llada_exp.runs.files import Column, write_whole
from llada_exp.runs.lock import taking
from llada_exp.runs.process import terminable
from llada_exp.runs.servers import check_experiment, check_remote, tree_key
from llada_exp.runs.settings import Tracking
from llada_exp.tables import Table

ROW = "row"
"""row.jsonl, row.parquet and row.txt of a point."""
MAX_NAME = 150
Rows = Sequence[Mapping[str, Any]]


class RunSettings(Protocol):
    """What the skeleton reads of a point's settings."""

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
    @property
    def server_tree(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Measured:
    """What a task brings back once its rows are written. content(wandb): what W&B gets besides the first row;
    notes: lines below the table of a single run."""

    rows: list[dict[str, Any]]
    content: Callable[[Any], Mapping[str, Any]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Variant:
    """One of the points that a line of overrides stands for. name: of its folder, where it has its own;
    problem: why it cannot run."""

    overrides: tuple[str, ...] = ()
    name: str | None = None
    problem: str | None = None


def folder_name(number: int, overrides: Sequence[str]) -> str:
    """Of a sweep's point: its number, and what was swept."""
    words = [re.sub(r"[^\w.=+-]", "-", word.removeprefix("decoding.")) for word in overrides if word]
    return f"{number:03d}_{','.join(words)}"[:MAX_NAME].rstrip("_")


@dataclass(frozen=True)
class Task:
    """What a program measures, a point at a time. Settings are its own, and can do what RunSettings can.

    program:         `python -m llada_exp.<program>` makes a row again; config: the file of conf/ that it
                     composes; shared_keys: keys of the server that are the program's, too; name_key: the key
                     that names a run's folder; job_type: of its runs in W&B; columns, version: of its rows.
    not_in_commands: words and keys of a command line that are no part of a row's own command.
    validate:        (composed configuration) -> settings. Raises ValueError.
    urls:            (settings) -> servers that run already; none: a server of our own.
    plan_line:       (folder, settings) -> a point of a dry run.
    measure:         (settings, folder, overrides, prepared) measures, and writes the rows. Any exception is a
                     failure of the point.
    table, headline: (rows), for people; (row), what is said of it as its point of a sweep ends.
    prepare:         (settings) -> what can be found out before anything starts, for `measure`. Raises
                     ValueError.
    check_single:    (settings) raises ValueError where they are those of a sweep.
    has_results:     (folder) -> whether it holds anything that took measuring.
    clear:           (folder) takes away what a run left that measured nothing.
    check_folder:    (folder, settings) raises ValueError where the folder holds what must not be mixed.
    is_whole:        (folder) -> whether a point that ended there has all that it was to bring; else it is
                     run again, and asks only what is missing.
    plan_details:    (folder, prepared) -> more lines of a single point's dry run.
    finished_note:   (folder, settings) -> a line on a point that was finished before.
    variants:        (composed configuration) -> the points that it stands for. Raises ValueError.
    folder_name:     (number, overrides) -> of a sweep's point.
    order:           (row) -> what a sweep's rows are sorted by.
    summarise:       (folder, rows) -> the table that a single run or a sweep ends with, and lines below it;
                     whatever else it makes of the rows goes into the folder. None: the table.
    """

    program: str
    config: str
    name_key: str
    job_type: str
    columns: Sequence[Column]
    version: int
    not_in_commands: frozenset[str]
    validate: Callable[[Mapping[str, Any]], Any]
    urls: Callable[[Any], Sequence[str]]
    plan_line: Callable[[Path, Any], str]
    measure: Callable[[Any, Path, Sequence[str], Any], Measured]
    table: Callable[[Rows], Table]
    headline: Callable[[Mapping[str, Any]], str]
    has_results: Callable[[Path], bool]
    prepare: Callable[[Any], Any] = lambda settings: None
    check_single: Callable[[Any], None] = lambda settings: None
    check_folder: Callable[[Path, Any], None] = lambda folder, settings: None
    clear: Callable[[Path], None] = lambda folder: None
    shared_keys: frozenset[str] = frozenset()
    is_whole: Callable[[Path], bool] = lambda folder: True
    plan_details: Callable[[Path, Any], list[str]] = lambda folder, prepared: []
    finished_note: Callable[[Path, Any], str | None] = lambda folder, settings: None
    variants: Callable[[dict[str, Any]], list[Variant]] = lambda tree: [Variant()]
    folder_name: Callable[[int, Sequence[str]], str] = folder_name
    order: Callable[[Mapping[str, Any]], Any] = lambda row: row["point"]
    summarise: Callable[[Path, Rows], tuple[Table, list[str]]] | None = None

    def finished(self, folder: Path, settings: RunSettings) -> bool:
        """Whether there is nothing left to do in a point's folder."""
        return status.finished(folder, settings.config_hash) and self.is_whole(folder)

    def server_of(self, settings: RunSettings) -> str:
        """Points of one such text can share one server start."""
        urls = self.urls(settings)
        return json.dumps(urls) if urls else tree_key(settings.server_tree)

    def summary(self, folder: Path, rows: Rows) -> tuple[Table, list[str]]:
        return self.summarise(folder, rows) if self.summarise else (self.table(rows), [])


def prepare(task: Task, settings: RunSettings, overrides: Sequence[str]) -> Any:
    """What the task prepares; whatever can be refused before anything starts is: raises ValueError."""
    if urls := task.urls(settings):
        check_remote(overrides, urls, task.shared_keys)
        if any(word.lstrip("+").startswith("experiment=") for word in overrides):
            check_experiment(settings.server_tree, _composed_alone(task.config), urls, task.shared_keys)
    return task.prepare(settings)


def _composed_alone(config: str) -> dict[str, Any]:
    """A program's configuration where nothing is said."""
    from hydra import compose
    from omegaconf import OmegaConf

    tree: Any = OmegaConf.to_container(compose(config), resolve=True)
    return tree


def run(task: Task, cfg: Any) -> int:
    """Measure the point that a composed configuration stands for; the exit code. Hydra's task: a launcher may
    run it in another process or job.

    A failure is recorded in status.json and told in one line. Raises ValueError for a user's mistake in a
    single run; a sweep has checked every point before.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    words = [w for w in hydra.overrides.task if not {w, w.split("=")[0]} & task.not_in_commands]
    if not OmegaConf.is_missing(hydra.job, "num"):
        with terminable():
            return _in_sweep(task, folder, tree, words)
    check_runs_folder(hydra.overrides.hydra)
    settings = task.validate(tree)
    task.check_single(settings)
    prepared = prepare(task, settings, hydra.overrides.task)
    if settings.dry_run:
        print("\n".join([task.plan_line(folder, settings), *task.plan_details(folder, prepared)]))
        return 0
    tracking.check(settings.tracking)
    unchosen = is_default_name(cfg, task.name_key) and folder.name == settings.name
    with ExitStack() as stack:
        for name in names(settings.name):
            tree = {**tree, task.name_key: name}
            settings, folder = task.validate(tree), folder.with_name(name) if unchosen else folder
            try:
                stack.enter_context(claim(task, folder, settings, {folder: settings}).entered())
                break
            except FolderRefused:
                if not unchosen:
                    raise
        stack.enter_context(terminable())
        return _single(task, settings, folder, tree, words, prepared)


def claim(task: Task, folder: Path, settings: RunSettings, points: Mapping[Path, RunSettings]) -> Claim:
    """What a run or a sweep is going to write. settings: any point's; points: their folders."""

    def check() -> None:
        for place, point in points.items():
            task.check_folder(place, point)

    hashes = {place: point.config_hash for place, point in points.items()}
    return Claim(folder, task.name_key, settings.name, settings.resume, hashes, task.has_results, check)


def _in_sweep(task: Task, folder: Path, tree: Mapping[str, Any], overrides: Sequence[str]) -> int:
    """A job of an earlier start may measure this very point: it is waited for, and looked at again."""
    settings = task.validate(tree)
    with taking(folder, lambda refusal: print(f"{refusal}: waiting for it", file=sys.stderr, flush=True)):
        task.check_folder(folder, settings)
        if _finished(task, settings, folder):
            return 0
        measured = _recorded(task, settings, folder, tree, overrides, None)
        if measured is None:
            return 1
    print("\n".join(f"{folder.name}: {task.headline(row)}" for row in measured.rows), flush=True)
    return 0


def _single(
    task: Task,
    settings: RunSettings,
    folder: Path,
    tree: Mapping[str, Any],
    overrides: Sequence[str],
    prepared: Any,
) -> int:
    if _finished(task, settings, folder):
        return 0
    measured = _recorded(task, settings, folder, tree, overrides, prepared)
    if measured is None:
        return 1
    table, notes = task.summary(folder, measured.rows)
    table.show(folder / f"{ROW}.txt")
    print("\n".join([*notes, *measured.notes, f"rows: {folder / ROW}.parquet"]), flush=True)
    return 0


def _finished(task: Task, settings: RunSettings, folder: Path) -> bool:
    """A requeued job, or resume: its rows are shown."""
    if not task.finished(folder, settings):
        return False
    task.table(jsonl.read(folder / f"{ROW}.jsonl")).show()
    if note := task.finished_note(folder, settings):
        print(note)
    return True


def _recorded(
    task: Task,
    settings: RunSettings,
    folder: Path,
    tree: Mapping[str, Any],
    overrides: Sequence[str],
    prepared: Any,
) -> Measured | None:
    """None where it failed."""
    try:
        with status.recorded(folder, settings.config_hash):
            if not task.has_results(folder):
                task.clear(folder)
            write_whole(folder / "config.yaml", yaml.safe_dump(dict(tree), sort_keys=False))
            measured = task.measure(settings, folder, overrides, prepared or task.prepare(settings))
    except Exception as error:
        print(f"error: {folder.name}: {error}", file=sys.stderr, flush=True)
        return None
    tracking.mirror(settings.tracking, folder, measured.rows[0], task.job_type, tree, measured.content)
    return measured
