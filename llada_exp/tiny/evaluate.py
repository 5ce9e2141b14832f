"""Accuracy of a model folder: `python -m llada_exp.tiny.evaluate -n 500`, or of questions of one's own.

    python -m llada_exp.tiny.evaluate --canvas 256 --file tests/tiny/hand_written.jsonl --wrong

What the trainer looks at while it trains, decoded by the engine. Intervals and comparisons of decoding
settings are the gate's (`llada_exp.gate`). A file has a line {"question": ..., "answer": "71" or null} for
each question, null where it is to be refused.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llada_exp.checkpoints import LoadedModel, load_model
from llada_exp.checkpoints.tiny import tiny_folder
from llada_exp.offline import Engine
from llada_exp.programs import run_program
from llada_exp.scoring import EXACT, Scorer
from llada_exp.tiny import tasks
from llada_exp.tiny.judging import is_right
from llada_exp.tiny.tasks import TinyProblem

CANVAS = tasks.CANVAS
SERVED_CANVAS = 256


def evaluate(
    loaded: LoadedModel,
    kind: str,
    n: int,
    decoding: Mapping[str, Any] | None = None,
    style: str = "hash",
    canvas: int | None = None,
    framed: bool = False,
) -> dict[str, Any]:
    """On the first n held-out problems of a kind. decoding: fields; without, one token a step. canvas:
    max_tokens; None: what just holds the kind's answers. framed: in each of the frames that harnesses use."""
    return score(loaded, kind, tasks.held_out(kind, n), decoding, style, canvas or CANVAS[kind], framed)


def score(
    loaded: LoadedModel,
    kind: str,
    problems: Sequence[TinyProblem],
    decoding: Mapping[str, Any] | None,
    style: str,
    canvas: int,
    framed: bool = False,
) -> dict[str, Any]:
    """What `evaluate` prints, with the questions and replies that are wrong."""
    frames = len(tasks.FRAMES[style]) if framed or style == "boxed" else 1
    chats = [tasks.messages(problem, style, number % frames) for number, problem in enumerate(problems)]
    began = time.monotonic()
    outputs = Engine(loaded, batch_size=16).chat(chats, {**(decoding or {}), "max_tokens": canvas})
    with Scorer(EXACT) as scorer:  # the answers are whole numbers, and training may lack math-verify
        wrong = [
            (problem.question, output.text)
            for problem, output in zip(problems, outputs, strict=True)
            if not is_right(scorer, problem, output.text)
        ]
    n = len(problems)
    return {
        "kind": kind,
        "decoding": decoding or "one token a step",
        "style": style,
        "canvas": canvas,
        "n": n,
        "right": n - len(wrong),
        "accuracy": 1 - len(wrong) / n,
        "nfe": round(sum(o.nfe for o in outputs) / n, 2),
        "seconds": round(time.monotonic() - began, 1),
        "wrong": wrong,
    }


def read_questions(path: Path) -> list[TinyProblem]:
    """Of a file of questions. Raises OSError, and ValueError naming a line that is none."""
    problems = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            question, answer = json.loads(line)["question"], json.loads(line)["answer"]
        except (ValueError, TypeError, LookupError):
            raise ValueError(
                f'{path}:{number}: {line}; expected {{"question": ..., "answer": ...}}'
            ) from None
        problems.append(TinyProblem(path.stem, question, "" if answer is None else "?", answer or ""))
    return problems


def _fields(text: str) -> dict[str, Any]:
    fields = json.loads(text)
    if not isinstance(fields, dict):
        raise ValueError("no JSON object")
    return fields


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m llada_exp.tiny.evaluate", description="Accuracy on held-out problems, or on a file's."
    )
    parser.add_argument("folder", type=Path, nargs="?", default=tiny_folder())
    parser.add_argument("-n", type=int, default=500, help="problems a kind (default 500)")
    parser.add_argument("--kinds", nargs="+", choices=tasks.KINDS, default=list(tasks.PARTS))
    parser.add_argument("--file", type=Path, default=None, help="questions and answers, in place of kinds")
    parser.add_argument(
        "--decoding",
        type=_fields,
        default=None,
        help='fields as JSON: {"threshold": 0.9}; without, a token a step',
    )
    parser.add_argument("--style", choices=tasks.STYLES, default="hash")
    parser.add_argument("--canvas", type=int, default=None, help="max_tokens; what just holds the answers")
    parser.add_argument("--framed", action="store_true", help="in the frames that harnesses use, in turn")
    parser.add_argument("--wrong", action="store_true", help="print what is answered wrongly, too")
    args = parser.parse_args(argv)
    loaded = load_model("hf", args.folder)

    def show(result: dict[str, Any]) -> None:
        wrong = result.pop("wrong")
        print(json.dumps(result), flush=True)
        for question, text in wrong if args.wrong else ():
            print(f"  {question!r}\n    -> {text!r}")

    if args.file is not None:
        problems, canvas = read_questions(args.file), args.canvas or SERVED_CANVAS
        show(score(loaded, args.file.stem, problems, args.decoding, args.style, canvas, args.framed))
        return
    for kind in args.kinds:
        show(evaluate(loaded, kind, args.n, args.decoding, args.style, args.canvas, args.framed))


if __name__ == "__main__":
    run_program(main)
