"""What a run of NeMo-Skills left behind, as answers; and whether the server did what was asked of it.

NeMo-Skills writes eval-results/BENCHMARK/output-rsSEED.jsonl, a line for each problem with the problem's own
fields, `generation`, `predicted_answer` and a verdict; names moved between its versions, so lines are read by
what they hold. They say little of a request; the record of the relay between it and the servers says the
rest, a line for each answered request

    {"body": the request, "texts": [...], "finish_reasons": [...], "usage": {...}, "llada": {...}, "url": ...}

Knows files, no process and no HTTP.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llada_exp import jsonl
from llada_exp.clients.reply import error_text
from llada_exp.evals.answers import FAILED, Answer
from llada_exp.evals.decoding_check import difference
from llada_exp.evals.nemo.command import NemoPlan
from llada_exp.evals.request_loop import NUM_REFUSED
from llada_exp.scoring import CORRECT, NO_ANSWER, WRONG

SCORE = ("symbolic_correct", "is_correct")
"""The verdict's names, the newer first."""
QUESTION = ("problem", "question", "prompt", "instruction")
RESPONSE = ("generation", "response")
RelayLine = Mapping[str, Any]


def read_results(plan: NemoPlan, record: Path | None = None) -> list[Answer]:
    """Every answer of a finished run, joined with the relay's record where it has the request.

    Raises RuntimeError naming file and line for what is not there, is unfinished, or has no verdict of a
    problem (benchmarks that a judge scores, and code).
    """
    requests = RelayRecord(record)
    answers = []
    for (benchmark, sample), path in plan.outputs().items():
        if not path.is_file():
            raise RuntimeError(f"{path}: no such file; NeMo-Skills did not finish {benchmark}")
        seed = plan.seed_of(benchmark, sample)
        for place, line in enumerate(_lines(path)):
            answer = _answer(f"{path}:{place + 1}", line, benchmark, place, sample, seed, requests)
            used = answer.decoding.get("max_tokens")
            if plan.tokens_to_generate and used and used < plan.tokens_to_generate:
                answer = replace(answer, num_cut=plan.tokens_to_generate - used)
            answers.append(answer)
        if not answers or (answers[-1].benchmark, answers[-1].sample) != (benchmark, sample):
            raise RuntimeError(f"{path}: NeMo-Skills answered no question of {benchmark}")
    return answers


def read_metrics(plan: NemoPlan) -> dict[str, Any]:
    """Benchmark -> NeMo-Skills' own summary, by its names; without those of which it wrote none."""
    metrics: dict[str, Any] = {}
    for name in plan.benchmarks:
        for path in (plan.folder(name) / "metrics.json", plan.folder(name).parent / "metrics.json"):
            if path.is_file() and name not in metrics:
                tree = json.loads(path.read_text())
                metrics[name] = tree.get(name, tree if path.parent.name == name else None)
    return {name: value for name, value in metrics.items() if value is not None}


def verify_parameters(fields: Mapping[str, Any], record: Path) -> str | None:
    """Whether every response says that it was decoded with `fields` (by the server's names, as
    `NemoPlan.sent` gives them; others are passed over: an alias, a user's name). Returns a warning where
    the servers do not say: another make.

    Raises RuntimeError naming field, what was asked and used, and in how many responses.
    """
    lines = list(_responses(record))
    _compare(fields, lines)
    if silent := sum(not _decoding(line) for line in lines) or not lines:
        return (
            f"{int(silent)} of {len(lines)} responses do not say how they were decoded: nothing is verified"
        )
    return None


def first_look(fields: Mapping[str, Any], record: Path) -> Callable[[], str | None]:
    """To be asked while a run goes on: says what the first response that is recorded did not use as asked, or
    that the servers refuse all."""
    first: list[RelayLine] = []

    def look() -> str | None:
        if first:
            return None
        first.extend(itertools.islice(_responses(record), 1))
        if not first and sum(400 <= line.get("status", 0) < 499 for line in _failures(record)) >= NUM_REFUSED:
            return first_failure(record)
        try:
            _compare(fields, first)
        except RuntimeError as error:
            return str(error)
        return None

    return look


def first_failure(record: Path) -> str | None:
    """What a server said to the first request that it refused or failed, by a relay's record."""
    for line in _lines(record, torn=True) if record.is_file() else ():
        if error := line.get("error"):
            text = error.get("message", error) if isinstance(error, dict) else error
            return f"the server answered {line.get('status')}: {text}"
    return None


def _compare(fields: Mapping[str, Any], lines: Sequence[RelayLine]) -> None:
    """Where NeMo-Skills asked again with fewer tokens, those that it asked for: see cut_to_fit."""
    by_length: defaultdict[int | None, list[Mapping[str, Any]]] = defaultdict(list)
    for line in lines:
        if used := _decoding(line):
            length, most = line["body"].get("max_tokens"), fields.get("max_tokens")
            is_shorter = isinstance(length, int) and isinstance(most, int) and length < most
            by_length[length if is_shorter else None].append(used)
    for length, decodings in by_length.items():
        request = {**fields, **({"max_tokens": length} if length else {})}
        if (reason := difference(request, decodings)) is not None:
            raise RuntimeError(reason)


def _decoding(line: RelayLine) -> Mapping[str, Any]:
    """What a response says of its decoding, if anything."""
    return _mapping(_mapping(line.get("llada")).get("decoding"))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


class RelayRecord:
    """The relay's record, to find the request that a line of output came from."""

    def __init__(self, record: Path | None) -> None:
        self.lines: defaultdict[tuple[Any, str], list[RelayLine]] = defaultdict(list)
        self.failures: defaultdict[Any, list[RelayLine]] = defaultdict(list)
        for line in _responses(record) if record else ():
            for text in line["texts"]:
                self.lines[line["body"].get("seed"), str(text)].append(line)
        for line in _failures(record) if record else ():
            self.failures[line["body"].get("seed")].append(line)

    def failure(self, line: RelayLine, seed: int) -> str | None:
        """Why a line of output is no answer; None where it is one."""
        response, question = _response(line), _question(line) or ""
        if response or self.of(question, response or "", seed):
            return None
        if error := line.get("detailed_error") or line.get("error"):
            return str(error)
        for failed in reversed(self.failures.get(seed, [])):
            if question in _prompt(failed["body"]):
                return f"{failed.get('status')}: {error_text(failed)}"
        return None

    def of(self, question: str, response: str, seed: int) -> RelayLine:
        """{} where there is none. Asked twice with one seed, a question has one answer: either will do."""
        for line in self.lines.get((seed, response), []):
            if question in _prompt(line["body"]):
                return line
        return {}


def _prompt(body: Mapping[str, Any]) -> str:
    """The text of a request's prompt."""
    if "messages" not in body:
        return str(body.get("prompt"))
    contents = [message.get("content") for message in body["messages"]]
    parts = [part if isinstance(part, list) else [{"text": part}] for part in contents]
    return "\n".join(str(p.get("text")) for part in parts for p in part)


def _answer(
    place: str, line: RelayLine, benchmark: str, number: int, sample: int, seed: int, requests: RelayRecord
) -> Answer:
    response, question = _response(line), _question(line)
    strict = line.get(
        "strict_eval"
    )  # of ifeval: whether all instructions were followed, and no answer to read
    correct = next((line[name] for name in SCORE if name in line), None)
    if isinstance(strict, Mapping):
        correct = strict.get("follow_all_instructions")
    error = requests.failure(line, seed)
    is_scored = error or (correct is not None and (strict or "predicted_answer" in line))
    if response is None or question is None or not is_scored:
        raise RuntimeError(
            f"{place}: has {', '.join(sorted(line)) or 'nothing'}; expected generation, predicted_answer, one"
            f" of {', '.join(SCORE)} and one of {', '.join(QUESTION)}: it is unfinished, or a benchmark"
            " that is scored otherwise"
        )
    predicted, expected = line.get("predicted_answer"), line.get("expected_answer")
    record = requests.of(question, response, seed)
    llada = _mapping(record.get("llada"))
    choice = _mapping((llada.get("choices") or [{}])[0])
    usage = _mapping(record.get("usage"))
    reasons = record.get("finish_reasons") or [line.get("finish_reason")]
    time_s = line.get("generation_time")
    return Answer(
        benchmark=benchmark,
        problem=str(line.get("id", number)),
        sample=sample,
        question=question,
        expected=None if expected is None else str(expected),
        response=response,
        predicted=None if predicted is None or error else str(predicted),
        verdict=_verdict(correct, response if strict else predicted, error),
        seed=seed,
        finish_reason=reasons[0],
        prompt_tokens=usage.get("prompt_tokens") if record else line.get("num_input_tokens"),
        output_tokens=usage.get("completion_tokens") if record else line.get("num_generated_tokens"),
        nfe=choice.get("nfe"),
        num_positions=choice.get("num_positions"),
        e2el_ms=choice.get("e2el_ms", time_s * 1000 if time_s is not None else None),
        url=record.get("url"),
        attempts=record.get("attempts", 1),
        decoding=_mapping(llada.get("decoding")),
        error=error,
    )


def _verdict(correct: Any, predicted: Any, error: Any) -> str:
    if error:
        return FAILED
    if correct == 1:  # of some benchmarks it is a share
        return CORRECT
    return NO_ANSWER if predicted is None else WRONG


def _response(line: RelayLine) -> str | None:
    """The text of a line of output."""
    return next((line[name] for name in RESPONSE if isinstance(line.get(name), str)), None)


def _question(line: RelayLine) -> str | None:
    return next((line[name] for name in QUESTION if isinstance(line.get(name), str)), None)


def _failures(record: Path) -> Iterator[dict[str, Any]]:
    """The requests of a relay's record that failed."""
    for line in _lines(record, torn=True) if record.is_file() else ():
        if line.get("error") and isinstance(line.get("body"), dict):
            yield line


def _responses(record: Path) -> Iterator[dict[str, Any]]:
    """The answered requests of a relay's record; none where there is no record."""
    for line in _lines(record, torn=True) if record.is_file() else ():
        if line.get("texts") and isinstance(line.get("body"), dict):
            yield line


def _lines(path: Path, torn: bool = False) -> Iterator[dict[str, Any]]:
    """The objects of a jsonl. torn: passes over a line that was cut off, by a kill or while it is written.
    Raises RuntimeError naming file and line."""
    try:
        for line in jsonl.lines(path, jsonl.ANY if torn else jsonl.NOTHING):
            yield line.tree
    except ValueError as error:
        raise RuntimeError(f"{error}; is it still being written?") from None
