"""From answers to rows and scores.json: one row a benchmark, with settings and origin."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llada_exp.evals import schema
from llada_exp.evals.answers import FAILED, Answer
from llada_exp.evals.evaluation import EvalSettings
from llada_exp.evals.result import HarnessResult
from llada_exp.evals.schema import complete
from llada_exp.evals.scores import ScoreEstimate, Scores, score
from llada_exp.runs import decoding_columns
from llada_exp.runs.files import write_rows, write_whole
from llada_exp.runs.task import ROW

SCORES = "scores.json"


def benchmark_rows(
    settings: EvalSettings, folder: Path, result: HarnessResult, shared: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], list[Scores]]:
    """Rows and scores, in the order of the answers, then of the metrics: a benchmark that has metrics of its
    own and no right and wrong (perplexities) is a row without scores. shared: columns that all rows have:
    model, versions, times."""
    rows, scores = [], []
    pooled = result.pooled()
    for name in dict.fromkeys(a.benchmark for a in pooled):
        answers = [a for a in pooled if a.benchmark == name]
        scores.append(score(answers))
        tokens = [a.output_tokens for a in answers if a.verdict != FAILED]
        row = {
            **configured(settings, answers),
            **measured(scores[-1]),
            "point": folder.name,
            "benchmark": name,
            "metric": result.accuracies.get(name, "pass@1"),
            "total_output_tokens": None if None in tokens else sum(t for t in tokens if t is not None),
            **shared,
        }
        rows.append(complete(row))
    bare = {**configured(settings, []), "point": folder.name, **shared}
    scored = {row["benchmark"] for row in rows}
    for name in result.metrics:
        if name not in scored:
            counts = result.counts_of(name)
            row = {**bare, "benchmark": name, "failed": counts.failed, "cut_to_fit": counts.cut_to_fit}
            rows.append(complete(row))
    return rows, scores


def measured(scores: Scores) -> dict[str, Any]:
    return {
        **_spread("accuracy", scores.accuracy),
        **_spread("majority", scores.majority),
        **_spread("pass_k", scores.pass_k),
        **{n: getattr(scores, n) for n in ("num_problems", "num_samples", "cut_off", "no_answer", "failed",
                                           "cut_to_fit", "mean_output_tokens", "mean_nfe", "tpf")},
    }  # fmt: skip


def _spread(name: str, estimate: ScoreEstimate | None) -> dict[str, float | None]:
    if estimate is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def configured(settings: EvalSettings, answers: Sequence[Answer]) -> dict[str, Any]:
    """The columns that say how it was asked: by the server's own word where it gives one."""
    decoding = next((dict(a.decoding) for a in answers if a.decoding), dict(settings.request))
    lengths = {a.decoding.get("max_tokens") for a in answers if a.decoding}
    server = settings.server
    return {
        "sweep": settings.name,
        "config_hash": settings.config_hash,
        "harness": settings.harness,
        "model_path": server.model.path if server else None,
        "checkpoint_step": settings.checkpoint_step,
        "num_urls": len(settings.urls),
        **decoding_columns.values(decoding),
        "max_tokens": lengths.pop() if len(lengths) == 1 else settings.request.get("max_tokens"),
        "seed": settings.seed,
        "prompt": settings.harness_keys.get("prompt"),
        "chat_template": settings.chat_template,
        "dtype": server.dtype if server else None,
        "batch_size": server.batch_size if server else None,
    }  # fmt: skip


def write(
    folder: Path, rows: Sequence[Mapping[str, Any]], scores: Sequence[Scores], metrics: Mapping[str, Any]
) -> None:
    """row.jsonl, row.parquet and scores.json. metrics: a harness's own, kept as they are."""
    tree = {"benchmarks": {s.benchmark: asdict(s) for s in scores}, "metrics": dict(metrics)}
    write_whole(folder / SCORES, json.dumps(tree, indent=1) + "\n")
    write_rows(folder / ROW, rows, schema.ROW, schema.VERSION)
