"""The checkpoints of a training run: which there are, which are whole, and the overrides that serve one.

Knows folders and Hydra's grammar; evaluates nothing.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from llada_exp.settings import override_value

LATEST = "latest"
_UNFINISHED = "tmp_"  # NeMo-RL renames tmp_step_N to step_N once all is written
_MAX_LISTED = 12


@dataclass(frozen=True)
class Checkpoint:
    """One saved step of a training run.

    path: absolute; name: what a server calls it, the run's name and its own; kind: the model source that
    loads it; problem: why it cannot be loaded, None where it is whole.
    """

    step: int
    path: Path
    name: str
    kind: str
    problem: str | None


def find(
    run_dir: str | Path,
    pattern: str = "step_*",
    steps: Sequence[int] | None = None,
    base: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> list[Checkpoint]:
    """The run's checkpoints in the order of their steps, each inspected without reading a weight.

    pattern: a path inside `run_dir`, whose last `*` stands for the step number and any before it for
             anything: `step_*`, `checkpoint-*`, `*/step_*`, `step_*/policy/weights`. Folders that are
             still being written (`tmp_step_*`) and links to another of the matches are left out.
    steps:   only these; all by default.
    base:    as `model.base`, of DCP folders that have no configuration of their own.
    settings: of the model's family, beside config.json.

    Raises ValueError naming the configuration's key, and what is there, for a folder without a match, a
    step that is not there, and two folders of one step.
    """
    run = Path(os.path.abspath(Path(run_dir).expanduser()))  # not resolved: a link's name is its name
    matches = _matches(run, pattern)
    if steps is not None:
        there = [step for step, _ in matches]
        if missing := sorted(set(steps) - set(there)):
            raise ValueError(
                f"checkpoint_steps holds {_listed(missing)}; {run} has {_listed(there)} (by {pattern!r})"
            )
        matches = [(step, path) for step, path in matches if step in set(steps)]
    return [_inspected(run, step, path, base, settings) for step, path in matches]


def _matches(run: Path, pattern: str) -> list[tuple[int, Path]]:
    """(step, folder), by step. Raises ValueError as `find` does."""
    if not run.is_dir():
        raise ValueError(f"checkpoints is {str(run)!r}; no such folder")
    pieces = re.sub(r"\*+", "*", pattern).split("*")
    if len(pieces) < 2 or pattern.startswith(("/", "~")) or ".." in Path(pattern).parts:
        raise ValueError(
            f"checkpoint_pattern is {pattern!r}; expected a path inside the run, with a * for the step number"
        )
    form = re.compile("[^/]*".join(map(re.escape, pieces[:-1])) + r"(\d+)" + re.escape(pieces[-1]))
    by_target: dict[Path, tuple[int, Path]] = {}
    for path in sorted(run.glob("*".join(map(escape, pieces))), key=lambda p: (p.is_symlink(), p)):
        place = path.relative_to(run)
        match = form.fullmatch(str(place))
        if match and path.is_dir() and not any(part.startswith(_UNFINISHED) for part in place.parts):
            by_target.setdefault(path.resolve(), (int(match[1]), path))
    matches = sorted(by_target.values())
    if not matches:
        raise ValueError(_nothing(run, pattern, form))
    for (step, path), (following, other) in pairwise(matches):
        if step == following:
            raise ValueError(
                f"checkpoint_pattern is {pattern!r}; {path.relative_to(run)} and {other.relative_to(run)} of "
                f"{run} are both step {step}: give a narrower one"
            )
    return matches


def _nothing(run: Path, pattern: str, form: re.Pattern[str]) -> str:
    """Why no folder matched."""
    from llada_exp.checkpoints.explain import natural  # with torch: seconds, where all is well

    if form.fullmatch(run.name) or any((run / n).exists() for n in (".metadata", "policy", "config.json")):
        return (
            f"checkpoints is {str(run)!r}, one checkpoint; expected the folder that holds several: give "
            f"{str(run.parent)!r} (with checkpoint_steps to choose), or evaluate this one by model=dcp (or "
            "hf) and model.path"
        )
    names = [p.name + "/" * p.is_dir() for p in run.iterdir() if not p.name.startswith(".")]
    there = _listed(sorted(names, key=natural)) or "nothing"
    return f"checkpoints is {str(run)!r}; it holds nothing of checkpoint_pattern={pattern!r}, but: {there}"


def _listed(names: Iterable[object]) -> str:
    words = [str(name) for name in names]
    more = f" and {len(words) - _MAX_LISTED} more" if len(words) > _MAX_LISTED else ""
    return ", ".join(words[:_MAX_LISTED]) + more


def _inspected(
    run: Path, step: int, path: Path, base: str | None, settings: Mapping[str, Any] | None
) -> Checkpoint:
    from llada_exp.checkpoints.inspect import inspect, kind_of

    problem = None
    try:
        inspect(path, base, settings)
    except (ValueError, OSError) as error:
        problem = str(error)
    name = "-".join((run.name, *path.relative_to(run).parts))
    return Checkpoint(step, path, name, kind_of(path), problem)


def overrides(checkpoint: Checkpoint, base: str | None = None) -> list[str]:
    """Hydra's overrides of a server (or an evaluation with its own) of this checkpoint."""
    values = {"model.path": str(checkpoint.path), "model.name": checkpoint.name}
    if base is not None:
        values["model.base"] = base
    return [f"model={checkpoint.kind}", *(f"{key}={override_value(value)}" for key, value in values.items())]


def point_latest(folder: Path, name: str) -> None:
    """Make `folder`/latest a link to its entry `name`, in one step: a reader sees the old one or the new.
    A link that cannot be made is told and is no error: it is a convenience."""
    draft = folder / f".{LATEST}.{os.getpid()}"
    try:
        draft.unlink(missing_ok=True)
        draft.symlink_to(name)
        os.replace(draft, folder / LATEST)
    except OSError as error:
        draft.unlink(missing_ok=True)
        print(f"warning: {folder / LATEST} does not point to {name}: {error}", file=sys.stderr, flush=True)
