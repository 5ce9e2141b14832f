"""A run's folder for the run alone: free, gone on with, or refused with the reason and what helps.

Everything is looked at while the folder is held (`lock.py`): two runs of one name see each other, however
close they are. Only results stand in the way of a run: one that measured nothing leaves nothing to be careful
of.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, Node

from llada_exp.runs import queued, status
from llada_exp.runs.lock import FolderTaken, taking


class FolderRefused(ValueError):
    """The folder is another run's: in use, or with its results."""


@dataclass(frozen=True)
class Claim:
    """What a run is going to write. folder: of the run, or of the sweep; key, name: the key that chose its
    name, and that; hashes: each point's folder -> its configuration's hash; has_results: whether there is
    something in a point's folder that took measuring; check: raises ValueError where the folder must not be
    gone on with in any case."""

    folder: Path
    key: str
    name: str
    resume: bool
    hashes: Mapping[Path, str]
    has_results: Callable[[Path], bool]
    check: Callable[[], None]

    @contextmanager
    def entered(self) -> Iterator[dict[str, str]]:
        """The folder for this process while the block lasts; the jobs that measure its points, with SLURM's
        word for each (`resume` alone may find any). Raises FolderRefused, and what `check` raises."""
        with ExitStack() as stack:
            try:
                stack.enter_context(taking(self.folder))
            except FolderTaken as error:
                raise FolderRefused(
                    f"{self.key} is {self.name!r}; {error}: wait for its end, or choose another {self.key}"
                ) from None
            yield self._checked()

    def _checked(self) -> dict[str, str]:
        self.check()
        begun = [path.parent for path in self.folder.glob(f"*/{status.FILE}")]
        live = queued.live_jobs(self.folder, {*self.hashes, *begun})
        if self.resume:
            return live
        if live:
            names = ", ".join(f"{job} {state.lower()}" for job, state in live.items())
            raise FolderRefused(
                f"{self.key} is {self.name!r}; jobs of {self.folder} are not over ({names}): resume=true goes"
                f" on with it and waits for them, `scancel {' '.join(live)}` ends them, another {self.key}"
                " starts anew"
            )
        if not any(self.has_results(place) for place in {self.folder, *self.hashes, *begun}):
            return {}
        same = any(status.read(place).get("config_hash") == value for place, value in self.hashes.items())
        holds = f"{self.key} is {self.name!r}; {self.folder} holds results"
        if same:
            raise FolderRefused(f"{holds}: resume=true goes on with it")
        raise FolderRefused(f"{holds} of other settings: choose another {self.key}")


def is_default_name(cfg: DictConfig, key: str) -> bool:
    """Whether the name of a run is the time, which nobody chose."""
    node = cfg._get_node(key)
    return isinstance(node, Node) and "${now:" in str(node._value())


def names(name: str) -> Iterator[str]:
    """The name, and those to be tried after it."""
    yield name
    yield from (f"{name}_{number}" for number in itertools.count(2))


def check_sweeps_folder(hydra: DictConfig) -> None:
    """hydra: its part of a sweep's configuration. Raises ValueError for a folder of Hydra's that a sweep has
    another one for."""
    subdir = hydra.sweep._get_node("subdir")
    if isinstance(subdir, Node) and subdir._value() != "${hydra.job.num}":
        raise ValueError(
            f"hydra.sweep.subdir is {subdir._value()!r}; points' folders are named by what differs between"
            " them, inside the sweep's: expected hydra.sweep.dir, or nothing"
        )
    if any(word.lstrip("+").startswith("hydra.run.dir=") for word in hydra.overrides.hydra):
        raise ValueError("hydra.run.dir is set; it is of a single run: expected hydra.sweep.dir with -m")


def check_runs_folder(overrides: Iterable[str]) -> None:
    """The same of a single run. overrides: those of Hydra's own part."""
    if any(word.lstrip("+").startswith("hydra.sweep.") for word in overrides):
        raise ValueError("hydra.sweep is set; it is of a sweep (-m): expected hydra.run.dir for a single run")
