"""Accuracy of a model folder on the held-out problems: `python -m llada_exp.tiny.evaluate -n 500`.

What the trainer looks at while it trains, decoded by the engine. Intervals and comparisons of decoding
settings are the gate's (`llada_exp.gate`).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from llada_exp.checkpoints import LoadedModel, load_model
from llada_exp.checkpoints.tiny import tiny_folder
from llada_exp.offline import Engine
from llada_exp.programs import run_program
from llada_exp.scoring import EXACT, Scorer
from llada_exp.tiny import tasks

CANVAS = tasks.CANVAS


def evaluate(
    loaded: LoadedModel, kind: str, n: int, threshold: float | None = None, style: str = "hash"
) -> dict[str, Any]:
    """Accuracy on the first n held-out problems of a kind, one token a step or by `threshold`."""
    problems = tasks.held_out(kind, n)
    chats = [
        [{"role": "user", "content": tasks.prompt_text(problem, style, number)}]
        for number, problem in enumerate(problems)
    ]
    began = time.monotonic()
    outputs = Engine(loaded, batch_size=16).chat(chats, {"max_tokens": CANVAS[kind], "threshold": threshold})
    with Scorer(EXACT) as scorer:  # the answers are whole numbers, and training may lack math-verify
        right = sum(scorer.is_right(o.text, p.answer) for p, o in zip(problems, outputs, strict=True))
    return {
        "kind": kind,
        "rule": "one token a step" if threshold is None else f"threshold {threshold:g}",
        "style": style,
        "n": n,
        "right": right,
        "accuracy": right / n,
        "nfe": round(sum(o.nfe for o in outputs) / n, 2),
        "seconds": round(time.monotonic() - began, 1),
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m llada_exp.tiny.evaluate", description="Accuracy on the held-out problems."
    )
    parser.add_argument("folder", type=Path, nargs="?", default=tiny_folder())
    parser.add_argument("-n", type=int, default=500, help="problems a kind (default 500)")
    parser.add_argument("--kinds", nargs="+", choices=tasks.KINDS, default=list(tasks.KINDS))
    parser.add_argument("--threshold", type=float, default=None, help="one token a step without it")
    parser.add_argument("--style", choices=tasks.STYLES, default="hash")
    args = parser.parse_args(argv)
    loaded = load_model("hf", args.folder)
    for kind in args.kinds:
        print(json.dumps(evaluate(loaded, kind, args.n, args.threshold, args.style)), flush=True)


if __name__ == "__main__":
    run_program(main)
