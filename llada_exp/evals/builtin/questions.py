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
from llada_exp.evals.builtin import benchmarks as problems
from llada_exp.evals.builtin.benchmarks import Problem
from llada_exp.evals.evaluation import EvalSettings
from llada_exp.evals.request_loop import CHAT, COMPLETION, EarlyStop, ask_all, message, read_answer
from llada_exp.evals.target import Target
from llada_exp.scoring import Scorer, extract


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
        for problem in problems.load(benchmark.name, settings.max_samples)
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

        def done(answer: Answer) -> None:
            file.write(answers.line(answer))
            answered[answer.key] = answer
            tick()

        if todo:
            asyncio.run(_Asker(settings, target, scorer, done).all(todo))
    in_order = [answered[q.key] for q in questions]
    answers.write(path, in_order)
    return in_order, num_before


class _Asker:
    def __init__(
        self, settings: EvalSettings, target: Target, scorer: Scorer, done: Callable[[Answer], None]
    ) -> None:
        self.settings = settings
        self.target = target
        self.scorer = scorer
        self.done = done

    async def all(self, todo: Sequence[Question]) -> None:
        own = self.settings
        pool = self.target.pool(own)
        await ask_all(pool, todo, own.concurrency, self.request, self._told, EarlyStop(own.request))

    async def _told(self, question: Question, body: Mapping[str, Any], exchange: PoolResponse) -> None:
        self.done(await asyncio.to_thread(self.answer, question, body, exchange))

    def request(self, question: Question) -> tuple[str, dict[str, Any]]:
        own = self.settings
        text = problems.ask(question.problem, own.harness_keys["prompt"])
        content: dict[str, Any] = {"prompt": text}
        if own.chat_template:
            content = {"messages": [{"role": "user", "content": text}]}
        body = {
            "model": self.target.model,
            **content,
            "seed": own.seed + question.sample,
            **question.problem.fields,
            **own.request,
        }
        return (CHAT if own.chat_template else COMPLETION), body

    def answer(self, question: Question, body: Mapping[str, Any], exchange: PoolResponse) -> Answer:
        problem = question.problem
        same: dict[str, Any] = {
            "benchmark": problem.benchmark,
            "problem": problem.id,
            "sample": question.sample,
            "question": problem.question,
            "expected": problem.expected,
            "seed": body["seed"],
            "e2el_ms": round(1000 * exchange.seconds, 3),
            "url": exchange.url,
            "attempts": exchange.attempts,
        }
        told = read_answer(exchange) if exchange.status == 200 else None
        if told is None:
            error = f"{exchange.status}: {message(exchange)}"
            return Answer(**same, response="", predicted=None, verdict=FAILED, error=error)
        predicted = extract(told["response"])
        assert problem.expected is not None
        verdict = self.scorer.verdict(predicted, problem.expected)
        return Answer(**same, **told, predicted=predicted, verdict=verdict)
