"""The builtin harness: asks every problem over HTTP, reads the answer, compares it.

Answers are appended to the folder as they come; what is there already is not asked again. Knows OpenAI's
protocol and no server's inside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llada_exp.evals import answers, problems
from llada_exp.evals.answers import FAILED, Answer
from llada_exp.evals.pool import Exchange, Pool, ServersGone, to_stderr
from llada_exp.evals.problems import Problem
from llada_exp.evals.scoring import Scorer, extract
from llada_exp.evals.settings import EvalSettings
from llada_exp.evals.target import Target
from llada_exp.evals.used import difference

NUM_REFUSED = 8
"""So many requests refused before any was answered are no accident of their problems."""
CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"


class Refused(RuntimeError):
    """The endpoint will answer none of the requests; the message says why."""


@dataclass(frozen=True)
class Question:
    """One request: a sample of a problem."""

    problem: Problem
    sample: int

    @property
    def key(self) -> answers.Key:
        return self.problem.benchmark, self.problem.id, self.sample


def questions(settings: EvalSettings) -> list[Question]:
    """Every sample of every problem, in order. Raises ValueError naming a benchmark at fault."""
    return [
        Question(problem, sample)
        for benchmark in settings.benchmarks
        for problem in problems.load(benchmark.name, settings.max_samples)
        for sample in range(benchmark.num_samples)
    ]


def run(
    settings: EvalSettings, target: Target, folder: Path, tick: Callable[[], None] = lambda: None
) -> tuple[list[Answer], int]:
    """Every answer in the order of the questions, and how many of them an earlier start had brought.

    Raises ServersGone where no server answers any more and Refused where none will: what was answered is
    in the folder, and `resume` goes on from there.
    """
    asked = questions(settings)
    path = folder / answers.FILE
    before = {a.key: a for a in answers.read(path) if a.verdict != FAILED} if path.is_file() else {}
    known = {q.key: before[q.key] for q in asked if q.key in before}
    answers.write(path, known.values())  # drops what was cut off, and failures that are asked again
    todo = [q for q in asked if q.key not in known]
    for _ in known:
        tick()
    with Scorer(settings.scorer) as scorer, path.open("a", buffering=1) as file:

        def done(answer: Answer) -> None:
            file.write(answers.line(answer))
            known[answer.key] = answer
            tick()

        num_before = len(known)
        if todo:
            asyncio.run(_Asker(settings, target, scorer, done).all(todo))
    found = [known[q.key] for q in asked]
    answers.write(path, found)
    return found, num_before


class _Asker:
    def __init__(
        self, settings: EvalSettings, target: Target, scorer: Scorer, done: Callable[[Answer], None]
    ) -> None:
        self.settings = settings
        self.target = target
        self.scorer = scorer
        self.done = done
        self.num_answered = self.num_refused = 0

    async def all(self, todo: Sequence[Question]) -> None:
        own = self.settings
        waiting = iter(todo)
        pool = Pool(
            self.target.urls,
            key=self.target.keys,
            timeout_s=own.timeout,
            max_retries=own.max_retries,
            patience_s=own.patience,
            alive=self.target.alive,
            tell=to_stderr,
        )
        try:
            async with pool, asyncio.TaskGroup() as group:
                for _ in range(min(own.concurrency, len(todo))):
                    group.create_task(self._client(pool, waiting))
        except* (ServersGone, Refused) as errors:
            first = errors.exceptions[0]
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            reason = first
        else:
            return
        raise reason

    async def _client(self, pool: Pool, waiting: Iterator[Question]) -> None:
        for question in waiting:  # shared: each takes the next one
            path, body = self.request(question)
            exchange = await pool.post(path, body)
            self._check(exchange)
            self.done(await asyncio.to_thread(self.answer, question, body, exchange))

    def request(self, question: Question) -> tuple[str, dict[str, Any]]:
        own = self.settings
        text = problems.ask(question.problem, own.prompt)
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

    def _check(self, exchange: Exchange) -> None:
        """Raises Refused where going on is of no use."""
        if exchange.status in (401, 403):
            raise Refused(
                f"{exchange.url} refuses the key ({_message(exchange)}); it comes from LLADA_API_KEY"
            )
        if exchange.status == 200:
            self.num_answered += 1
            used = (exchange.body.get("llada") or {}).get("decoding")
            if used and (found := difference(self.settings.request, [used])) is not None:
                raise Refused(found)
        elif 400 <= exchange.status < 500:
            self.num_refused += 1
        if not self.num_answered and self.num_refused >= NUM_REFUSED:
            raise Refused(
                f"{exchange.url} refused the first {self.num_refused} requests; the last with "
                f"{exchange.status}: {_message(exchange)}"
            )

    def answer(self, question: Question, body: Mapping[str, Any], exchange: Exchange) -> Answer:
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
            error = f"{exchange.status}: {_message(exchange)}"
            return Answer(**same, response="", predicted=None, verdict=FAILED, error=error)
        predicted = extract(told["response"])
        assert problem.expected is not None
        verdict = self.scorer.verdict(predicted, problem.expected)
        return Answer(**same, **told, predicted=predicted, verdict=verdict)


def read_answer(exchange: Exchange) -> dict[str, Any] | None:
    """The fields of an Answer that a response gives; None where it is of another shape than OpenAI's."""
    tree = exchange.body
    try:
        choice = tree["choices"][0]
        response = choice["message"]["content"] if "message" in choice else choice["text"]
    except (KeyError, IndexError, TypeError):
        return None
    own, usage = tree.get("llada") or {}, tree.get("usage") or {}
    cost = (own.get("choices") or [{}])[0]
    return {
        "response": response or "",
        "finish_reason": choice.get("finish_reason"),
        "prompt_tokens": usage.get("prompt_tokens"),
        "output_tokens": usage.get("completion_tokens"),
        "nfe": cost.get("nfe"),
        "num_positions": cost.get("num_positions"),
        "decoding": {k: v for k, v in (own.get("decoding") or {}).items() if k != "seed"},
    }


def _message(exchange: Exchange) -> str:
    error = exchange.body.get("error")
    text = error.get("message") if isinstance(error, dict) else error
    return str(text or exchange.body)[:500]
