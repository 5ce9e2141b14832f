"""harness=builtin: asks every problem over HTTP, reads the answer, compares it."""

from __future__ import annotations

from pathlib import Path

from llada_exp.evals import report
from llada_exp.evals.builtin import benchmarks, questions
from llada_exp.evals.evaluation import EvalSettings
from llada_exp.evals.harness import Harness
from llada_exp.evals.result import Found
from llada_exp.evals.target import target
from llada_exp.runs.keys import Key, one_of
from llada_exp.scoring import SCORERS
from llada_exp.settings import Node


def check(settings: EvalSettings) -> None:
    """Raises ValueError naming a benchmark at fault."""
    questions.questions(settings)


def plan(settings: EvalSettings, folder: Path) -> list[str]:
    return [f"{len(questions.questions(settings))} questions"]


def run(settings: EvalSettings, folder: Path) -> Found:
    """Raises RuntimeError where a server does not start, or none answers any more."""
    total = len(questions.questions(settings))
    with target(settings, folder) as endpoints, report.progress(total) as tick:
        answers, num_before = questions.run(settings, endpoints, folder, tick)
        return Found(answers, endpoints.model, endpoints.urls[0], endpoints.handle is not None, num_before)


def _prompt(node: Node, name: str) -> str:
    try:
        return benchmarks.check_prompt(node[name])
    except ValueError as error:
        raise ValueError(f"{node.place}{error}") from None


HARNESS = Harness(
    name="builtin",
    benchmarks='tiny_short | tiny_long | FILE.jsonl of {"problem", "expected_answer"}',
    keys=(
        Key("prompt", "plain", _prompt, "plain | boxed | a text with {problem} in it"),
        Key("scorer", "math_verify", one_of(*SCORERS), "math_verify | exact"),
    ),
    recognises=benchmarks.is_builtin,
    check=check,
    plan=plan,
    run=run,
)
