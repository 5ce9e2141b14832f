"""The trainer's command line, read and checked: what is nonsense is said before anything is written.

Knows argparse and JSON, nothing of torch.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KINDS = ("facts", "lines", "heads", "steps", "short", "long")
"""Of batches; see data.py."""
MAY_DIFFER = ("run", "out", "steps", "minutes", "save_minutes", "eval_n", "keep")
"""What a run that goes on may have otherwise than before: where it writes, and how long it takes."""
_LIMITS: Mapping[str, tuple[float, float]] = {
    "steps": (1, 10**9),
    "minutes": (1e-3, 10**6),
    "seed": (0, 2**63 - 1),
    "d_model": (2, 2**14),
    "layers": (1, 256),
    "heads": (1, 256),
    "mlp": (1, 2**17),
    "batch_tokens": (1, 2**22),
    "micro": (1, 256),
    "muon_lr": (0, 10),
    "adam_lr": (0, 10),
    "decay_from": (0, 0.999),
    "save_minutes": (0, 10**6),
    "eval_n": (0, 10**6),
    "keep": (0, 10**6),
}


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Raises ValueError naming the option, its value and what is allowed."""
    parser = argparse.ArgumentParser(
        prog="python -m llada_exp.tiny.train",
        description="Train the embedded model. Ctrl-C saves; the same command goes on where it stopped.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--run", type=Path, default=Path("runs/tiny"), help="folder of step_* and resume folders")
    add("--out", type=Path, default=None, help="where the model folder goes; RUN/model by default")
    add("--start", type=Path, default=None, help="model folder whose weights a new run begins with")
    add("--steps", type=int, default=None, help="length in steps (excludes --minutes)")
    add("--minutes", type=float, default=None, help="length in minutes of training; 240 without --steps")
    add("--seed", type=int, default=0, help="of weights and problems")
    add("--d-model", type=int, default=128, help="width of the network")
    add("--layers", type=int, default=5)
    add("--heads", type=int, default=4)
    add("--mlp", type=int, default=384, help="width of the feed-forward part")
    add("--batch-tokens", type=int, default=1024, help="tokens of one of the parallel batches of a step")
    add("--micro", type=int, default=2, help="batches of a step, computed two at a time")
    add("--muon-lr", type=float, default=0.01, help="learning rate of the layers' matrices")
    add("--adam-lr", type=float, default=0.003, help="learning rate of everything else")
    add("--decay-from", type=float, default=0.5, help="share of the run after which the rates fall")
    add("--stages", default=None, help="JSON [[until, {kind: weight}], ...]; until: share of the run")
    add(
        "--save-minutes",
        type=float,
        default=5.0,
        help="minutes of training between checkpoints; 0: every step",
    )
    add("--eval-n", type=int, default=0, help="held-out problems a kind at each checkpoint")
    add("--keep", type=int, default=2, help="step folders kept")
    args = parser.parse_args(argv)
    if args.steps is not None and args.minutes is not None:
        raise ValueError("--steps and --minutes exclude each other")
    if args.steps is None and args.minutes is None:
        args.minutes = 240.0
    _check(args)
    return args


def shown(args: argparse.Namespace) -> dict[str, Any]:
    """What a checkpoint says of how it was made, as JSON can hold it."""
    return {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k not in ("run", "out")}


def check_same(before: Mapping[str, Any], args: argparse.Namespace) -> None:
    """Raises ValueError naming what a run that goes on has otherwise than it had."""
    now = json.loads(json.dumps(shown(args)))
    for name, value in before.items():
        if name not in MAY_DIFFER and now.get(name) != value:
            raise ValueError(
                f"{_option(name)} is {now.get(name)}, which does not fit the run in {args.run}: it was begun"
                f" with {value}; expected the same, or another --run"
            )


def _check(args: argparse.Namespace) -> None:
    for name, (low, high) in _LIMITS.items():
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            raise ValueError(f"{_option(name)} is {value}; expected a number from {low:g} to {high:g}")
    if args.d_model % args.heads or args.d_model // args.heads % 2:
        raise ValueError(f"--d-model is {args.d_model}; expected --heads ({args.heads}) times an even number")
    if args.stages is not None:
        args.stages = _stages(args.stages)


def _stages(text: str) -> list[tuple[float, dict[str, float]]]:
    try:
        stages = [(until, dict(mix)) for until, mix in json.loads(text)]
        numbers = [until for until, _ in stages] + [w for _, mix in stages for w in mix.values()]
        good = all(type(n) in (int, float) and math.isfinite(n) and n >= 0 for n in numbers)
        good = good and stages[-1][0] >= 1 and [s[0] for s in stages] == sorted({s[0] for s in stages})
        good = good and all(set(mix) <= set(KINDS) and sum(mix.values()) > 0 for _, mix in stages)
    except (ValueError, TypeError, LookupError):
        good = False
    if not good:
        raise ValueError(
            f'--stages is {text}; expected JSON like [[0.5, {{"drill": 1}}], [1, {{"short": 2, "long": 3}}]]:'
            f" shares of the run that rise to 1 or more, each with weights of {', '.join(KINDS)}"
        )
    return stages


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
