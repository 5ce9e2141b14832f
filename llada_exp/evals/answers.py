"""One answer to one problem: what every harness comes down to, and what scores are made of.

An evaluation keeps each in answers.jsonl as it comes. Knows no harness, no HTTP and no statistics.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llada_exp import jsonl
from llada_exp.runs.files import write_whole
from llada_exp.scoring import CORRECT, NO_ANSWER, WRONG

FAILED = "failed"
VERDICTS = (CORRECT, WRONG, NO_ANSWER, FAILED)
FILE = "answers.jsonl"
AnswerKey = tuple[str, str, int]


@dataclass(frozen=True)
class Answer:
    """benchmark:     its name ("gsm8k", "tiny_short", a task's);
    problem:       id within the benchmark: the problem's own, or its place from 0;
    sample:        0 .. k - 1, where a problem is asked k times;
    predicted:     what was read out of the response; None: nothing could be;
    verdict:       correct, wrong, no_answer (nothing could be read), failed (no response: `error` says why);
    finish_reason: "length" where the answer was cut off;
    decoding:      the effective parameters, by the server's own word; {} where it gives none;
    attempts:      how often it was asked until there was a response;
    num_cut:       tokens that it was cut by to fit the model's length: of the prompt's start, or of the room
                   for the answer.
    """

    benchmark: str
    problem: str
    sample: int
    question: str
    expected: str | None
    response: str
    predicted: str | None
    verdict: str
    seed: int | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    nfe: int | None = None
    num_positions: int | None = None
    e2el_ms: float | None = None
    url: str | None = None
    attempts: int = 1
    decoding: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    num_cut: int = 0

    def __post_init__(self) -> None:
        assert self.verdict in VERDICTS, self.verdict

    @property
    def key(self) -> AnswerKey:
        return self.benchmark, self.problem, self.sample

    @property
    def correct(self) -> bool:
        return self.verdict == CORRECT


_NAMES = {f.name for f in dataclasses.fields(Answer)}
_NEEDED = {
    f.name
    for f in dataclasses.fields(Answer)
    if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
}


def line(answer: Answer) -> str:
    return json.dumps(asdict(answer)) + "\n"


def write(path: Path, answers: Iterable[Answer]) -> None:
    """The whole file anew, in the order of benchmarks, problems and samples as given."""
    write_whole(path, "".join(map(line, answers)))


def read(path: Path) -> list[Answer]:
    """The answers of a file; of a problem's sample that was asked again, the last one. A last line that
    was cut off with its process is passed over. Raises ValueError naming file and line for anything else.
    """
    answers: dict[AnswerKey, Answer] = {}
    try:
        for line in jsonl.lines(path, jsonl.LAST):
            answer = _answer(line)
            answers[answer.key] = answer
    except OSError as error:
        raise ValueError(f"{path}: expected an evaluation's answers ({error.strerror})") from None
    return list(answers.values())


def _answer(line: jsonl.Line) -> Answer:
    tree = line.tree
    if missing := _NEEDED - tree.keys():
        raise ValueError(f"{line.place}: no answer of an evaluation: without {', '.join(sorted(missing))}")
    if tree["verdict"] not in VERDICTS:
        raise ValueError(
            f"{line.place}: verdict is {tree['verdict']!r}; expected one of {', '.join(VERDICTS)}"
        )
    return Answer(**{name: value for name, value in tree.items() if name in _NAMES})
