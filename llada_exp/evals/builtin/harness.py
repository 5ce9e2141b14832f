"""harness=builtin: asks every problem over HTTP, reads the answer, compares it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from llada_exp.evals.builtin import benchmarks
from llada_exp.evals.builtin.questions import Question, ask, load
from llada_exp.evals.evaluation import EvalSettings
from llada_exp.evals.harness import Harness, Prepared
from llada_exp.evals.result import HarnessResult
from llada_exp.evals.target import target
from llada_exp.runs.keys import Key, one_of
from llada_exp.runs.progress import progress
from llada_exp.scoring import SCORERS


def prepare(settings: EvalSettings) -> Prepared:
    """Raises ValueError naming a benchmark at fault."""
    questions = load(settings)
    return Prepared(lambda folder: [f"{len(questions)} questions"], partial(run, settings, questions))


def run(settings: EvalSettings, questions: Sequence[Question], folder: Path) -> HarnessResult:
    """Raises RuntimeError where a server does not start, or none answers any more."""
    with target(settings, folder) as endpoints, progress(len(questions), "answer") as tick:
        answers, num_before = ask(settings, endpoints, folder, questions, tick)
        return HarnessResult(
            answers, endpoints.model, endpoints.urls[0], endpoints.handle is not None, num_before
        )


PROMPT = Annotated[str, AfterValidator(benchmarks.check_prompt)]
HARNESS = Harness(
    name="builtin",
    benchmarks='tiny_short | tiny_long | FILE.jsonl of {"problem", "expected_answer"}',
    keys=(
        Key("prompt", "plain", PROMPT, "plain | boxed | a text with {problem} in it"),
        Key("scorer", "math_verify", one_of(*SCORERS), "math_verify | exact"),
    ),
    recognises=benchmarks.is_builtin,
    prepare=prepare,
)
