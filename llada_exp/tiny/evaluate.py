"""Accuracy on the held-out problems: `python -m llada_exp.tiny.evaluate FOLDER -n 500`.

The trainer's own look at its model, with the small decoder of `decode.py`; the gate over the engine is
`llada_exp.evals.gate`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from llada_exp.models.llada import LLaDA, LLaDAConfig
from llada_exp.tiny import tasks
from llada_exp.tiny.decode import decode
from llada_exp.tiny.tokenizer import chat_prompt

CANVAS = {"short": 64, "long": 128}


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a share, 95 % by default."""
    share = right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def replies(
    model: LLaDA,
    tokenizer: Tokenizer,
    users: list[str],
    canvas: int,
    threshold: float | None = None,
    threads: int = 1,
) -> tuple[list[str], float]:
    """The model's texts for user messages, and the forwards of one row that an answer took."""
    prompts = [tokenizer.encode(chat_prompt(user)).ids for user in users]
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    shares = [order[part::threads] for part in range(threads)]

    def work(share: list[int]) -> tuple[list[list[int]], int]:
        torch.set_num_threads(1)
        return decode(model, [prompts[row] for row in share], canvas, threshold)

    texts, forwards = [""] * len(users), 0
    with ThreadPoolExecutor(threads) as pool:
        for share, (answers, count) in zip(shares, pool.map(work, shares), strict=True):
            forwards += count
            for row, answer in zip(share, answers, strict=True):
                texts[row] = tokenizer.decode(answer)
    return texts, forwards / max(1, len(users))


def evaluate(
    model: LLaDA,
    tokenizer: Tokenizer,
    kind: str,
    n: int,
    threshold: float | None = None,
    style: str = "hash",
    threads: int = 1,
) -> dict[str, Any]:
    """Accuracy on the first n held-out problems of a kind, with its interval."""
    problems = tasks.held_out(kind, n)
    users = [tasks.prompt_text(p, style, number) for number, p in enumerate(problems)]
    began = time.monotonic()
    texts, forwards = replies(model, tokenizer, users, CANVAS[kind], threshold, threads)
    right = sum(tasks.is_correct(p, text) for p, text in zip(problems, texts, strict=True))
    low, high = wilson(right, n)
    return {
        "kind": kind,
        "rule": "one token a step" if threshold is None else f"threshold {threshold}",
        "style": style,
        "n": n,
        "right": right,
        "accuracy": round(right / n, 4),
        "wilson95": [round(low, 4), round(high, 4)],
        "forwards_per_answer": round(forwards, 2),
        "seconds": round(time.monotonic() - began, 1),
    }


def load(folder: Path) -> tuple[LLaDA, Tokenizer]:
    """A model folder, in float32 whatever it stores."""
    config = LLaDAConfig.from_dict(json.loads((folder / "config.json").read_text()), str(folder))
    with torch.device("meta"):
        model = LLaDA(config)
    weights = {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}
    model.load_state_dict(weights, assign=True)
    model.logits(torch.zeros(1, 1, dtype=torch.int64))  # the rotary table, before threads want it
    return model, Tokenizer.from_file(str(folder / "tokenizer.json"))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m llada_exp.tiny.evaluate", description="Accuracy on the held-out problems."
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent / "weights")
    parser.add_argument("-n", type=int, default=500, help="problems a kind (default 500)")
    parser.add_argument("--kinds", nargs="+", choices=tasks.KINDS, default=list(tasks.KINDS))
    parser.add_argument("--threshold", type=float, default=None, help="one token a step without it")
    parser.add_argument("--style", choices=tasks.STYLES, default="hash")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    model, tokenizer = load(args.folder)
    for kind in args.kinds:
        result = evaluate(model, tokenizer, kind, args.n, args.threshold, args.style, args.threads)
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
