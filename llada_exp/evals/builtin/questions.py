"""What the builtin harness asks, and what becomes of each question.

Answers are appended to the folder as they come; what is there already is not asked again. Knows OpenAI's
protocol and no server's inside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llada_exp.clients.pool import PoolResponse
from llada_exp.evals import answers
from llada_exp.evals.answers import FAILED, Answer
from llada_exp.evals.builtin import benchmarks
from llada_exp.evals.builtin.benchmarks import Problem
from llada_exp.evals.evaluation import EvalSettings
from llada_exp.evals.request_loop import CHAT, COMPLETION, EarlyStop, ask_all, read_answer
from llada_exp.evals.target import Target
from llada_exp.scoring import Scorer, extract
from llada_exp.signals import run_in_loop


@dataclass(frozen=True)
class Question:
    """One request: a sample of a problem."""

    problem: Problem
    sample: int

    @property
    def key(self) -> answers.AnswerKey:
        return self.problem.benchmark, self.problem.id, self.sample


def load(settings: EvalSettings) -> list[Question]:
    """Every sample of every problem, in order. Raises ValueError naming a benchmark at fault."""
    return [
        Question(problem, sample)
        for benchmark in settings.benchmarks
        for problem in benchmarks.load(benchmark.name, settings.max_samples)
        for sample in range(benchmark.num_samples)
    ]


def ask(
    settings: EvalSettings,
    target: Target,
    folder: Path,
    questions: Sequence[Question],
    tick: Callable[[], object] = lambda: None,
) -> tuple[list[Answer], int]:
    """Every answer in the order of the questions, and how many of them an earlier start had brought.

    Raises ServersGone where no server answers any more and Refused where none will: what was answered is
    in the folder, and `resume` goes on from there.
    """
    path = folder / answers.FILE
    before = {a.key: a for a in answers.read(path) if a.verdict != FAILED} if path.is_file() else {}
    answered = {q.key: before[q.key] for q in questions if q.key in before}
    answers.write(path, answered.values())  # drops what was cut off, and failures that are asked again
    num_before = len(answered)
    todo = [q for q in questions if q.key not in answered]
    for _ in answered:
        tick()
    with Scorer(settings.harness_keys["scorer"]) as scorer, path.open("a", buffering=1) as file:

        async def done(question: Question, body: Mapping[str, Any], response: PoolResponse) -> None:
            answer = await asyncio.to_thread(judged, question, body, response, scorer)
            file.write(answers.line(answer))
            answered[answer.key] = answer
            tick()

        def request(question: Question) -> tuple[str, dict[str, Any]]:
            return request_of(question, settings, target.model)

        if todo:
            pool, stop = target.pool(settings), EarlyStop(settings.request)
            run_in_loop(ask_all(pool, todo, settings.concurrency, request, done, stop))
    ordered = [answered[q.key] for q in questions]
    answers.write(path, ordered)
    return ordered, num_before


def request_of(question: Question, settings: EvalSettings, model: str) -> tuple[str, dict[str, Any]]:
    """Path and body."""
    text = benchmarks.prompt_of(question.problem, settings.harness_keys["prompt"])
    content: dict[str, Any] = {"prompt": text}
    if settings.chat_template:
        content = {"messages": [{"role": "user", "content": text}]}
    body = {
        "model": model,
        **content,
        "seed": settings.seed + question.sample,
        **question.problem.fields,
        **settings.request,
    }
    return (CHAT if settings.chat_template else COMPLETION), body


def judged(question: Question, body: Mapping[str, Any], response: PoolResponse, scorer: Scorer) -> Answer:
    problem, fields = question.problem, read_answer(response)
    predicted, verdict = None, FAILED
    if fields["error"] is None:
        predicted = extract(fields["response"])
        assert problem.expected is not None
        verdict = scorer.verdict(predicted, problem.expected)
    return Answer(
        benchmark=problem.benchmark,
        problem=problem.id,
        sample=question.sample,
        question=problem.question,
        expected=problem.expected,
        predicted=predicted,
        verdict=verdict,
        seed=body["seed"],
        **fields,
    )
