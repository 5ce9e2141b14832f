"""harness=builtin: asks every problem over HTTP, reads the answer, compares it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from llada_exp.evals import report
from llada_exp.evals.builtin import benchmarks as problems
from llada_exp.evals.builtin import questions
from llada_exp.evals.evaluation import EvalSettings
from llada_exp.evals.harness import Harness
from llada_exp.evals.result import Found
from llada_exp.evals.target import target
from llada_exp.runs.keys import Key, one_of
from llada_exp.scoring import SCORERS


def check(settings: EvalSettings) -> None:
    """Raises ValueError naming a benchmark at fault."""
    questions.questions(settings)


def plan(settings: EvalSettings, folder: Path) -> list[str]:
    return [f"{len(questions.questions(settings))} questions"]


def run(settings: EvalSettings, folder: Path) -> Found:
    """Raises RuntimeError where a server does not start, or none answers any more."""
    total = len(questions.questions(settings))
    with target(settings, folder) as asked, report.progress(total) as tick:
        answers, num_before = questions.run(settings, asked, folder, tick)
        return Found(answers, asked.model, asked.urls[0], asked.handle is not None, num_before)


PROMPT = Annotated[str, AfterValidator(problems.check_prompt)]
HARNESS = Harness(
    name="builtin",
    benchmarks='tiny_short | tiny_long | FILE.jsonl of {"problem", "expected_answer"}',
    keys=(
        Key("prompt", "plain", PROMPT, "plain | boxed | a text with {problem} in it"),
        Key("scorer", "math_verify", one_of(*SCORERS), "math_verify | exact"),
    ),
    recognises=problems.is_builtin,
    check=check,
    plan=plan,
    run=run,
)
