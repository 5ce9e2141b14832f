"""One evaluation: find or start the server, ask, score, write rows, stop what was started.

`run_evaluation` is Hydra's task: a plain function that a launcher may run in another process or job.
What a harness does, its folder says.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from llada_exp import jsonl
from llada_exp.evals import answers, report, rows, tracking
from llada_exp.evals.checkpoints import point_latest
from llada_exp.evals.evaluation import EvalSettings
from llada_exp.evals.harnesses import harnesses
from llada_exp.evals.settings import validate_eval
from llada_exp.runs import status
from llada_exp.runs.process import terminable
from llada_exp.runs.provenance import provenance
from llada_exp.runs.servers import check_preset
from llada_exp.runs.tracking import check

NOT_IN_COMMANDS = ("expname", "output_dir", "resume", "dry_run", "checkpoints", "checkpoint_pattern",
                   "checkpoint_steps")  # fmt: skip
SWEEP = "experiment=checkpoints"


def run_evaluation(cfg: Any) -> int:
    """Run the evaluation that a composed conf/eval.yaml stands for; the exit code.

    A failure is recorded in status.json and told in one line. Raises ValueError for a user's mistake in
    a single run; a sweep has checked every evaluation before.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    settings = validate_eval(tree)
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    alone = OmegaConf.is_missing(hydra.job, "num")
    given = hydra.overrides.task
    overrides = [o for o in given if o.split("=")[0] not in NOT_IN_COMMANDS and o != SWEEP]
    if alone:
        if settings.checkpoints is not None:
            raise ValueError("checkpoints is set; a folder of them is a sweep: experiment=checkpoints, or -m")
        check_preset(given, settings.urls)
        harness = harnesses()[settings.harness]
        harness.check(settings)
        if settings.dry_run:
            print(report.plan_line(folder, settings))
            print("\n".join(harness.plan(settings, folder)))
            return 0
        check(settings.tracking)
    check_folder(folder, settings, must_resume=alone)
    if status.finished(folder, settings.config_hash):  # a requeued job, or resume
        print(report.table(jsonl.read(folder / f"{rows.ROW}.jsonl")))
        return 0
    with terminable():
        return _recorded(settings, folder, overrides, tree, alone)


def check_folder(folder: Path, settings: EvalSettings, must_resume: bool) -> None:
    """Raises ValueError where the folder holds another evaluation: nothing is written over."""
    told = status.read(folder)
    if told.get("config_hash") not in (None, settings.config_hash):
        raise ValueError(
            f"expname is {settings.name!r}; {folder} holds an evaluation under other settings "
            f"({folder / 'config.yaml'} has them): expected another expname, or the same settings"
        )
    if told and must_resume and not settings.resume:
        raise ValueError(
            f"expname is {settings.name!r}; {folder} holds an evaluation: resume=true goes on with it"
        )


def _recorded(
    settings: EvalSettings, folder: Path, overrides: Sequence[str], tree: Mapping[str, Any], alone: bool
) -> int:
    try:
        with status.recorded(folder, settings.config_hash):
            (folder / "config.yaml").write_text(yaml.safe_dump(dict(tree), sort_keys=False))
            found, metrics = evaluate(settings, folder, overrides)
    except Exception as error:
        print(f"error: {folder.name}: {error}", file=sys.stderr, flush=True)
        return 1
    tracking.track(settings.tracking, folder, found, tree)
    if alone:
        point_latest(folder.parent, folder.name)
        print("\n".join([report.table(found), *report.metric_lines(metrics)]))
        print(f"answers: {folder / answers.FILE}\nrows: {folder / rows.ROW}.parquet", flush=True)
    else:
        print("\n".join(map(report.line, found)), flush=True)
    return 0


def evaluate(
    settings: EvalSettings, folder: Path, overrides: Sequence[str]
) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
    """The evaluation's rows and its harness's own metrics, written into its folder beside its answers.

    Raises RuntimeError where the server does not start, goes for good, or answers nothing.
    """
    started, began = status.now(), time.monotonic()
    found = harnesses()[settings.harness].run(settings, folder)
    answers.write(folder / answers.FILE, found.answers)
    if not found.metrics and all(answer.verdict == answers.FAILED for answer in found.answers):
        first = found.answers[0].error if found.answers else "there was nothing to ask"
        raise RuntimeError(f"none of {len(found.answers)} questions was answered ({first})")
    shared = {
        **provenance("evals", overrides, found.url, found.local),
        "model": found.model,
        "harness_version": found.version,
        "resumed": found.num_before,
        "duration": time.monotonic() - began,
        "started": started,
        "ended": status.now(),
    }
    own, scores = rows.benchmark_rows(settings, folder, found, shared)
    rows.write(folder, own, scores, found.metrics)
    return own, found.metrics
