"""What W&B gets of an evaluation: its scores, its answers as a table, and accuracy against the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llada_exp import jsonl
from llada_exp.evals import answers

SUMMARY = ("accuracy", "accuracy_low", "accuracy_high", "majority", "pass_k", "cut_off", "no_answer",
           "failed", "mean_output_tokens", "mean_nfe", "tpf")  # fmt: skip
PLAIN = ("benchmark", "problem", "sample", "verdict", "finish_reason", "output_tokens", "nfe")
TEXT = ("question", "expected", "predicted", "response")


def content(folder: Path, rows: Sequence[Mapping[str, Any]], log_text: bool, wandb: Any) -> dict[str, Any]:
    """Of one finished evaluation, whose folder this is. A benchmark's figures are `<benchmark>/accuracy` and
    so on. log_text: questions and answers, too."""
    names = [*PLAIN, *(TEXT if log_text else ())]
    data = [[getattr(a, name) for name in names] for a in answers.read(folder / answers.FILE)]
    logged = {f"{row['benchmark']}/{name}": row[name] for row in rows for name in SUMMARY
              if row[name] is not None}  # fmt: skip
    logged["answers"] = wandb.Table(columns=names, data=data)
    if (image := _curve(folder, rows)) is not None:
        logged["accuracy_by_step"] = wandb.Image(str(image))
    return logged


def _curve(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path | None:
    """This checkpoint among those of its sweep that are finished; None where it is none."""
    if rows[0]["checkpoint_step"] is None:
        return None
    from llada_exp.evals.curve import plot

    near = [r for path in sorted(folder.parent.glob("*/row.jsonl")) for r in jsonl.read(path)]
    path = folder / "accuracy_by_step.png"
    plot([r for r in near if r["sweep"] == rows[0]["sweep"]]).savefig(path, dpi=150)
    return path
