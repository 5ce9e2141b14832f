"""Train the embedded model: `python -m llada_exp.tiny.train --run RUN --minutes 45 --out FOLDER`.

The same command resumes where RUN has a resume state. The length is given in steps (exactly
repeatable) or in minutes of training. Drills of facts and of copying come first, then short problems,
then long ones beside them; the learning rate falls to zero over the second half.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from llada_exp.checkpoints import load_model
from llada_exp.models.llada import LLaDAConfig
from llada_exp.tiny import folders, tasks
from llada_exp.tiny.data import BatchMaker
from llada_exp.tiny.evaluate import evaluate
from llada_exp.tiny.learner import Learner, StepReport
from llada_exp.tiny.tokenizer import EOS, MASK, build_tokenizer, token_id

# Until this share of the run, this mix of batches.
STAGES: tuple[tuple[float, dict[str, float]], ...] = (
    (0.13, {"drill": 0.4, "copy": 0.35, "short": 0.25}),
    (0.30, {"drill": 0.35, "copy": 0.1, "short": 0.3, "long": 0.25}),
    (0.60, {"drill": 0.15, "copy": 0.05, "short": 0.35, "long": 0.45}),
    (1.01, {"drill": 0.08, "copy": 0.04, "short": 0.28, "long": 0.6}),
)


def mix_at(progress: float, stages: tuple[tuple[float, dict[str, float]], ...] = STAGES) -> dict[str, float]:
    return next(mix for until, mix in stages if progress < until)


def rate_at(progress: float, step: int, decay_from: float) -> float:
    """The learning rate's factor: a short warm-up, a plateau, a straight fall to zero."""
    warm = min(1.0, (step + 1) / 40)
    return warm * min(1.0, max(0.0, (1 - progress) / (1 - decay_from)))


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m llada_exp.tiny.train",
        description="Train the embedded model; the same command goes on where it stopped.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--run", type=Path, default=Path("runs/tiny"), help="folder of step_* and resume folders")
    add("--out", type=Path, default=None, help="where the model folder goes; RUN/model by default")
    add("--steps", type=int, default=None, help="length in steps (excludes --minutes)")
    add("--minutes", type=float, default=None, help="length in minutes of training; 45 without --steps")
    add("--seed", type=int, default=0, help="of weights and problems")
    add("--d-model", type=int, default=128)
    add("--layers", type=int, default=4)
    add("--heads", type=int, default=4)
    add("--mlp", type=int, default=384)
    add("--batch-tokens", type=int, default=640, help="tokens of one of the parallel batches of a step")
    add("--micro", type=int, default=4, help="batches of a step, computed two at a time")
    add("--muon-lr", type=float, default=0.01)
    add("--adam-lr", type=float, default=0.003)
    add("--decay-from", type=float, default=0.45, help="share of the run after which the rate falls")
    add("--stages", type=json.loads, default=None, help="JSON [[until, {kind: weight}], ...]")
    add("--save-minutes", type=float, default=5.0, help="between checkpoints")
    add("--eval-n", type=int, default=0, help="held-out problems a kind at each checkpoint")
    add("--keep", type=int, default=2, help="step folders kept")
    args = parser.parse_args(argv)
    if args.steps is not None and args.minutes is not None:
        raise ValueError("--steps and --minutes exclude each other")
    if args.steps is None and args.minutes is None:
        args.minutes = 45.0
    return args


class Run:
    """One training run: the learner, its clock and its folders."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.tokenizer = build_tokenizer()
        self.maker = BatchMaker(self.tokenizer, args.seed, args.batch_tokens)
        vocab = -(-self.tokenizer.get_vocab_size() // 32) * 32
        self.config = LLaDAConfig(
            d_model=args.d_model, n_layers=args.layers, n_heads=args.heads, n_kv_heads=args.heads,
            mlp_hidden_size=args.mlp,
            vocab_size=vocab, max_sequence_length=4096, rope_theta=500000.0, rms_norm_eps=1e-5,
            mask_token_id=token_id(self.tokenizer, MASK), eos_token_id=token_id(self.tokenizer, EOS),
        )  # fmt: skip
        self.learner = Learner(self.config, self.maker, args.seed, args.micro)
        self.seconds, self.num_tokens = 0.0, 0
        if (state := folders.read_resume(args.run)) is not None:
            tensors, info = state
            self.learner.load_state(tensors, info["step"])
            self.seconds, self.num_tokens = info["seconds"], info["tokens"]

    @property
    def progress(self) -> float:
        if self.args.steps is not None:
            return self.learner.num_steps / self.args.steps
        return self.seconds / 60 / self.args.minutes

    def step(self) -> StepReport:
        began = time.monotonic()
        progress, args = self.progress, self.args
        rate = rate_at(progress, self.learner.num_steps, args.decay_from)
        stages = tuple((until, mix) for until, mix in args.stages) if args.stages else STAGES
        report = self.learner.step(mix_at(progress, stages), args.muon_lr * rate, args.adam_lr * rate)
        self.num_tokens += report.num_tokens
        self.seconds += time.monotonic() - began
        return report

    def save(self, log: Any) -> None:
        """Resume state, step folder and model folder; then a look at the held-out problems."""
        args, weights = self.args, self.learner.average
        info = {"step": self.learner.num_steps, "seconds": self.seconds, "tokens": self.num_tokens}
        folders.write_resume(args.run, self.learner.state(), info)
        shown = {
            k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k not in ("run", "out")
        }
        folders.write_step(args.run, self.config, self.tokenizer, weights, {**info, "arguments": shown})
        folders.prune_steps(args.run, args.keep)
        out = args.out or args.run / "model"
        folders.write_model(out, self.config, self.tokenizer, weights)
        if not args.eval_n:
            return
        loaded = load_model("hf", out)
        for kind in tasks.KINDS:
            accuracy = evaluate(loaded, kind, args.eval_n, threshold=0.9)
            log(f"step {info['step']} {json.dumps(accuracy)}")


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    torch.set_num_threads(1)  # the parallelism is the learner's threads
    random.seed(args.seed)
    run = Run(args)
    saved_at = run.seconds
    measures: dict[str, list[tuple[float, float]]] = {}
    shown_at = time.monotonic()
    with tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| {elapsed}<{remaining} {postfix}") as bar:
        while run.progress < 1:
            report = run.step()
            for kind in report.losses:
                measures.setdefault(kind, []).append((report.losses[kind], report.results[kind]))
            if time.monotonic() - shown_at > 30 or run.progress >= 1:
                shown_at = time.monotonic()
                bar.update(min(100.0, 100 * run.progress) - bar.n)
                means = {
                    k: [round(sum(x) / len(x), 4) for x in zip(*v, strict=True)] for k, v in measures.items()
                }
                speed = run.num_tokens / max(run.seconds, 1e-9)
                tqdm.write(f"step {run.learner.num_steps} {run.seconds:.0f}s {speed:.0f} tok/s {means}")
                measures = {}
            if run.seconds - saved_at > 60 * args.save_minutes or run.progress >= 1:
                saved_at = run.seconds
                run.save(tqdm.write)


if __name__ == "__main__":
    main()
