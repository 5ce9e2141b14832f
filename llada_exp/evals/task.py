"""An evaluation as a task: its settings, words and columns for the skeleton in `runs/task.py`.

A sweep goes over settings, over a training run's checkpoints, or both. A checkpoint that is damaged fails
before anything is started, and is named at the end; one that was evaluated under the same settings is passed
over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from llada_exp import jsonl
from llada_exp.clients.pool import to_stderr
from llada_exp.evals import answers, checkpoints, curve, report, tracking
from llada_exp.evals.evaluation import EvalSettings
from llada_exp.evals.harness import Prepared
from llada_exp.evals.harnesses import harnesses
from llada_exp.evals.run import evaluate
from llada_exp.evals.schema import ROW, VERSION
from llada_exp.evals.settings import validate_eval
from llada_exp.evals.target import MODEL
from llada_exp.runs import files, status
from llada_exp.runs.task import ROW as ROW_FILE
from llada_exp.runs.task import Measured, Rows, Task, Variant, folder_name
from llada_exp.tables import Table


def _check_single(settings: EvalSettings) -> None:
    if settings.checkpoints is not None:
        raise ValueError("checkpoints is set; a folder of them is a sweep: experiment=checkpoints, or -m")


def _has_results(folder: Path) -> bool:
    """Whether a question was answered there."""
    if files.any_line(folder / answers.FILE, lambda answer: answer.get("verdict") != answers.FAILED):
        return True
    return any(files.any_line(path, _is_answered) for path in _records(folder))


def _records(folder: Path) -> Iterator[Path]:
    for harness in harnesses().values():
        for pattern in harness.records:
            yield from folder.glob(pattern)


def _is_answered(record: Mapping[str, Any]) -> bool:
    return not (record.get("error") or record.get("detailed_error"))


def _clear(folder: Path) -> None:
    """Another evaluation's failures, and its model's name, are nothing to go on from."""
    for path in (folder / answers.FILE, folder / MODEL, *_records(folder)):
        path.unlink(missing_ok=True)


def _check_folder(folder: Path, settings: EvalSettings) -> None:
    before, config = status.read(folder).get("config_hash"), folder / "config.yaml"
    if before not in (None, settings.config_hash) and _has_results(folder):
        raise ValueError(
            f"expname is {settings.name!r}; {folder} holds an evaluation under other settings"
            f"{f' ({config} has them)' * config.is_file()}: expected another expname, or the same settings"
        )


def _is_whole(folder: Path) -> bool:
    """Whether an evaluation that ended has every answer: those that failed are asked again."""
    path = folder / f"{ROW_FILE}.jsonl"
    return path.is_file() and not any(row.get("failed") for row in jsonl.read(path))


def _measure(settings: EvalSettings, folder: Path, overrides: Sequence[str], prepared: Prepared) -> Measured:
    before = answers.read(folder / answers.FILE) if (folder / answers.FILE).is_file() else []
    if num_failed := sum(a.verdict == answers.FAILED for a in before):
        to_stderr(f"{folder.name}: {num_failed} answers that failed are asked again")
    rows, metrics = evaluate(settings, folder, overrides, prepared)
    notes = [*report.metric_lines(metrics), f"answers: {folder / answers.FILE}"]
    return Measured(rows, partial(tracking.content, folder, rows, settings.tracking.log_text), notes)


def _variants(tree: dict[str, Any]) -> list[Variant]:
    """One for each checkpoint, where a folder of them is to be evaluated."""
    settings = validate_eval(tree)
    if settings.checkpoints is None:
        return [Variant()]
    if settings.urls:
        raise ValueError("url is set; each checkpoint is served by a server of its own")
    base = tree["model"]["base"]
    of_family = settings.server.model.settings if settings.server else None
    whole = checkpoints.find(
        settings.checkpoints, settings.checkpoint_pattern, settings.checkpoint_steps, base, of_family
    )
    return [
        Variant((*checkpoints.overrides(c, base), f"checkpoint_step={c.step}"), f"step_{c.step}", c.problem)
        for c in whole
    ]


def _folder_name(number: int, overrides: Sequence[str]) -> str:
    """Without what NeMo-Skills does not take in a path."""
    return re.sub(r"[=,]", "-", folder_name(number, overrides))


def _summarise(folder: Path, rows: Rows) -> tuple[Table, list[str]]:
    checkpoints.point_latest(folder.parent, folder.name)
    without_score = _without_score(folder)
    table = report.table(rows, without_score)
    if not without_score and all(row["checkpoint_step"] is None for row in rows):
        return table, []
    figure = folder / "accuracy_by_step.png"
    curve.plot(rows, without_score).savefig(figure, dpi=150)
    return table, [f"figure: {figure}"]


def _without_score(folder: Path) -> list[int]:
    """Steps of a sweep whose evaluation did not come to its end."""
    steps = {path.parent: path.parent.name.split("_")[1] for path in folder.glob(f"step_*/{status.FILE}")}
    return [
        int(step) for place, step in steps.items() if step.isdigit() and status.verdict(place)[0] != status.OK
    ]


TASK = Task(
    program="evals",
    config="eval",
    shared_keys=frozenset(("seed",)),
    name_key="expname",
    job_type="eval",
    columns=ROW,
    version=VERSION,
    not_in_commands=frozenset(
        ("expname", "output_dir", "resume", "dry_run", "checkpoints", "checkpoint_pattern",
         "checkpoint_steps", "experiment=checkpoints")
    ),
    validate=validate_eval,
    urls=lambda settings: settings.urls,
    plan_line=report.plan_line,
    measure=_measure,
    table=report.table,
    headline=report.headline,
    has_results=_has_results,
    clear=_clear,
    prepare=lambda settings: harnesses()[settings.harness].prepare(settings),
    check_single=_check_single,
    check_folder=_check_folder,
    is_whole=_is_whole,
    plan_details=lambda folder, prepared: prepared.plan(folder),
    variants=_variants,
    folder_name=_folder_name,
    order=lambda row: (row["checkpoint_step"] is None, row["checkpoint_step"] or 0, row["point"]),
    summarise=_summarise,
)  # fmt: skip
