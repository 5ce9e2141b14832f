"""Train the embedded model: `python -m llada_exp.tiny.train --run RUN --minutes 240 --out FOLDER`.

The same command goes on where RUN has a resume state; Ctrl-C, SIGTERM and SIGHUP save one first. The length
is given in steps (exactly repeatable) or in minutes of training. Drills of facts and of copying come first,
then short problems, then long ones beside them; the learning rate falls to zero over the second half.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from typing import Any

import torch
from tqdm import tqdm

from llada_exp.checkpoints import load_model
from llada_exp.models.llada import LLaDAConfig
from llada_exp.tiny import folders, tasks
from llada_exp.tiny.data import BatchMaker
from llada_exp.tiny.evaluate import evaluate
from llada_exp.tiny.learner import Learner, StepReport
from llada_exp.tiny.options import check_same, parse, shown
from llada_exp.tiny.stopping import Stop
from llada_exp.tiny.tokenizer import EOS, MASK, build_tokenizer, token_id

FAILED, USAGE_ERROR = 1, 2
SHOW_S = 30.0
TIMED_STEPS = 3
# Until this share of the run, this mix of batches.
STAGES: tuple[tuple[float, dict[str, float]], ...] = (
    (0.10, {"facts": 0.3, "lines": 0.2, "heads": 0.5}),
    (0.30, {"facts": 0.18, "lines": 0.15, "heads": 0.42, "steps": 0.1, "short": 0.15}),
    (0.50, {"facts": 0.15, "lines": 0.17, "heads": 0.18, "steps": 0.2, "short": 0.15, "long": 0.15}),
    (0.65, {"facts": 0.06, "lines": 0.2, "heads": 0.12, "steps": 0.12, "short": 0.27, "long": 0.23}),
    (1.01, {"facts": 0.04, "lines": 0.16, "heads": 0.16, "steps": 0.18, "short": 0.16, "long": 0.3}),
)


def mix_at(progress: float, stages: tuple[tuple[float, dict[str, float]], ...] = STAGES) -> dict[str, float]:
    return next(mix for until, mix in stages if progress < until)


def rate_at(progress: float, step: int, decay_from: float) -> float:
    """The learning rate's factor: a short warm-up, a plateau, a straight fall to zero."""
    warm = min(1.0, (step + 1) / 40)
    return warm * min(1.0, max(0.0, (1 - progress) / (1 - decay_from)))


class Run:
    """One training run: the learner, its clock and its folders. Raises ValueError where RUN holds another."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.out = args.out or args.run / "model"
        folders.check_places(args.run, self.out)
        state = folders.read_resume(args.run)
        if state is not None:
            check_same(state[1].get("arguments", {}), args)
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
        if state is not None:
            tensors, info = state
            self.learner.load_state(tensors, info["step"])
            self.seconds, self.num_tokens = info["seconds"], info["tokens"]
        elif args.start is not None:
            self.learner.begin_with(folders.read_weights(args.start))

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

    def save(self, log: Any, stop: Stop | None = None) -> None:
        """Step folder, model folder, and then the resume state: what that says is done is there. After it,
        unless it is time to stop, a look at the held-out problems."""
        args, weights = self.args, self.learner.average
        counts = {"step": self.learner.num_steps, "seconds": self.seconds, "tokens": self.num_tokens}
        info = {**counts, "arguments": shown(args)}
        folders.write_step(args.run, self.config, self.tokenizer, weights, info)
        folders.write_model(self.out, self.config, self.tokenizer, weights)
        folders.write_resume(args.run, self.learner.state(), info)
        folders.prune_steps(args.run, args.keep)
        if not args.eval_n or (stop and stop.reason):
            return
        loaded = load_model("hf", self.out)
        for kind in tasks.KINDS:
            result = evaluate(loaded, kind, args.eval_n, {"threshold": 0.9})
            log(
                f"step {info['step']}, held-out {kind} problems: {result['accuracy']:.1%} of {result['n']}"
                f" right, {result['nfe']} passes an answer, {result['seconds']} s"
            )
            if stop and stop.reason:
                return


def plan(run: Run) -> str:
    """What will be done, and for how long, in words."""
    args, num = run.args, sum(param.numel() for param in run.learner.params.values())
    if args.steps is not None:
        length, left = f"{args.steps} steps", f"{args.steps - run.learner.num_steps} steps"
    else:
        length, left = f"{args.minutes:g} min of training", f"{args.minutes - run.seconds / 60:.1f} min"
    began = f"from the weights of {args.start}" if args.start else "from nothing"
    if run.learner.num_steps:
        began = f"on from step {run.learner.num_steps}, {left} left"
    often = f"every {args.save_minutes:g} min" if args.save_minutes else "after every step"
    return (
        f"training {num / 1e6:.1f} million parameters for {length}, {began}\n"
        f"saves {often} and at Ctrl-C: {args.run}/resume, {args.run}/step_N (the last {args.keep}), {run.out}"
    )


def progress_line(run: Run, measures: dict[str, list[tuple[float, float]]]) -> str:
    """Where the run is, and each kind's loss and share of right results since the last line."""
    parts = []
    for kind in sorted(measures):
        losses, rights = zip(*measures[kind], strict=True)
        parts.append(f"{kind} {sum(losses) / len(losses):.3f} ({sum(rights) / len(rights):.0%})")
    return (
        f"step {run.learner.num_steps}, {run.seconds / 60:.1f} min of training,"
        f" {run.num_tokens / max(run.seconds, 1e-9):.0f} tokens/s; loss (share right): {', '.join(parts)}"
    )


def say(text: str) -> None:
    """On stdout, where that is still there: a terminal that was closed is no reason not to go on."""
    with contextlib.suppress(OSError):
        tqdm.write(text)
        sys.stdout.flush()


def train(run: Run, stop: Stop) -> None:
    """To its end, or until it is time to stop; saved in both cases."""
    saved_at, shown_at, first = run.seconds, time.monotonic(), run.learner.num_steps
    began_s = run.seconds
    measures: dict[str, list[tuple[float, float]]] = {}
    done, form = min(100.0, 100 * run.progress), "{l_bar}{bar}| {elapsed}<{remaining}"
    with tqdm(total=100, initial=done, unit="%", desc="training", bar_format=form) as bar:
        while run.progress < 1 and not stop.reason:
            report = run.step()
            if run.learner.num_steps == first + TIMED_STEPS and run.args.steps is not None:
                step_s = (run.seconds - began_s) / TIMED_STEPS
                minutes = step_s * (run.args.steps - run.learner.num_steps) / 60
                say(f"a step takes {step_s:.2f} s: about {minutes:.1f} min to go")
            for kind in report.losses:
                measures.setdefault(kind, []).append((report.losses[kind], report.results[kind]))
            at_end = run.progress >= 1 or stop.reason is not None
            if run.seconds - saved_at > 60 * run.args.save_minutes or at_end:
                saved_at = run.seconds
                run.save(say, stop)
            if time.monotonic() - shown_at > SHOW_S or at_end:
                shown_at = time.monotonic()
                bar.update(min(100.0, 100 * run.progress) - bar.n)
                say(progress_line(run, measures))
                measures = {}


def main(argv: list[str] | None = None) -> int:
    """The exit code: 128 and the signal's number where one ended it."""
    try:
        args = parse(argv)
        torch.set_num_threads(1)  # the parallelism is the learner's threads
        random.seed(args.seed)
        with folders.alone_in(args.run):
            return _run(Run(args))
    except KeyboardInterrupt:
        say("ended at once; what was saved before is whole, and the same command goes on from there")
        return Stop.INTERRUPTED
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE_ERROR
    except OSError as error:
        print(f"error: {error}; what was saved before is whole", file=sys.stderr)
        return FAILED


def _run(run: Run) -> int:
    if run.progress >= 1:
        if not (run.out / "config.json").is_file():
            folders.write_model(run.out, run.config, run.tokenizer, run.learner.average)
        say(
            f"nothing to train: {run.args.run} is done, at step {run.learner.num_steps}; the model: {run.out}"
        )
        return 0
    say(plan(run))
    with Stop() as stop:
        train(run, stop)
    at = f"at step {run.learner.num_steps}"
    if stop.reason and run.progress < 1:
        say(f"{stop.reason}: saved {at} in {run.args.run}; the same command goes on")
        return stop.code
    say(f"done {at}; the model: {run.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
