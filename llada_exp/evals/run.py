"""One evaluation: ask, score, write rows. What a harness does, its folder says."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llada_exp.evals import answers, rows
from llada_exp.evals.evaluation import EvalSettings
from llada_exp.evals.harness import Prepared
from llada_exp.runs import status
from llada_exp.runs.provenance import provenance


def evaluate(
    settings: EvalSettings, folder: Path, overrides: Sequence[str], prepared: Prepared
) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
    """The evaluation's rows and its harness's own metrics, written into its folder beside its answers.

    Raises RuntimeError where the server does not start, goes for good, or answers nothing.
    """
    started, began = status.now(), time.monotonic()
    result = prepared.run(folder)
    answers.write(folder / answers.FILE, result.answers)
    result.check_answered()
    shared = {
        **provenance("evals", overrides, result.url, result.local),
        "model": result.model,
        "harness_version": result.version,
        "resumed": result.num_before,
        "duration": time.monotonic() - began,
        "started": started,
        "ended": status.now(),
    }
    table, scores = rows.benchmark_rows(settings, folder, result, shared)
    rows.write(folder, table, scores, result.metrics)
    return table, result.metrics
