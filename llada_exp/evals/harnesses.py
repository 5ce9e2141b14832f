"""The harnesses by name: what each needs, what it would run, and its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from llada_exp.evals import builtin, report
from llada_exp.evals.lm import harness as lm_harness
from llada_exp.evals.nemo import harness as nemo_harness
from llada_exp.evals.result import Found
from llada_exp.evals.settings import BUILTIN, LM_EVAL, NEMO_SKILLS, EvalSettings
from llada_exp.evals.target import target


@dataclass(frozen=True)
class Harness:
    """check: raises ValueError where it cannot run; plan: what it would run, a line each."""

    check: Callable[[EvalSettings], None]
    plan: Callable[[EvalSettings, Path], list[str]]
    run: Callable[[EvalSettings, Path], Found]


def check(settings: EvalSettings) -> None:
    """Raises ValueError naming what is missing, before anything is started."""
    _HARNESSES[settings.harness].check(settings)


def plan(settings: EvalSettings, folder: Path) -> list[str]:
    return _HARNESSES[settings.harness].plan(settings, folder)


def run(settings: EvalSettings, folder: Path) -> Found:
    """Raises RuntimeError where a server does not start, or none answers any more."""
    check(settings)
    return _HARNESSES[settings.harness].run(settings, folder)


def _check_builtin(settings: EvalSettings) -> None:
    builtin.questions(settings)


def _plan_builtin(settings: EvalSettings, folder: Path) -> list[str]:
    return [f"{len(builtin.questions(settings))} questions"]


def _run_builtin(settings: EvalSettings, folder: Path) -> Found:
    total = len(builtin.questions(settings))
    with target(settings, folder) as own, report.progress(total) as tick:
        found, num_before = builtin.run(settings, own, folder, tick)
        return Found(found, own.model, own.urls[0], own.handle is not None, num_before)


_HARNESSES: Mapping[str, Harness] = {
    BUILTIN: Harness(_check_builtin, _plan_builtin, _run_builtin),
    LM_EVAL: Harness(lm_harness.check, lm_harness.told, lm_harness.run),
    NEMO_SKILLS: Harness(nemo_harness.check, nemo_harness.told, nemo_harness.run),
}
