"""lm-eval's results as answers and metrics.

lm-eval scores a document once for every filter and metric. An answer's verdict is one of them: the first
filter, in the task's order, that has a metric of only 0 and 1, and the first such metric. Tasks without one
(perplexities) have metrics and no answers. Several samples of a document (`repeats`) are one answer, whose
response is the first of them. Knows lm-eval's plain results, and does not import it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llada_exp.evals.answers import FAILED, Answer
from llada_exp.evals.lm.records import Records, TaskRecord
from llada_exp.scoring import CORRECT, NO_ANSWER, WRONG

Sample = Mapping[str, Any]
TaskMetrics = dict[str, dict[str, dict[str, float | int | None]]]
NOTHING_READ = ("[invalid]", "")  # of lm-eval's regex filters
NORMS: Mapping[str, Callable[[str], int]] = {
    "acc_norm": len,
    "acc_bytes": lambda text: len(text.encode()),
}
"""What a choice's likelihood is divided by, where such a metric gives the verdict."""


def metrics(results: Mapping[str, Any]) -> TaskMetrics:
    """Task or group -> metric (`name`, or `name,filter`) -> value, stderr, n."""
    tree: TaskMetrics = {}
    for name, row in {**results["results"], **results.get("groups", {})}.items():
        n = results.get("n-samples", {}).get(name, {}).get("effective") or row.get("sample_len")
        tree[name] = {
            label(key): {"value": value, "stderr": _number(row.get(_stderr(key))), "n": n}
            for key, value in row.items()
            if "," in key and "_stderr," not in key and _number(value) is not None
        }
    return tree


def label(key: str) -> str:
    """`acc,none` -> `acc`."""
    return key.removesuffix(",none")


def _stderr(key: str) -> str:
    name, _, filtered = key.partition(",")
    return f"{name}_stderr,{filtered}"


def _number(value: Any) -> float | None:
    """lm-eval says "N/A" where there is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def scored_by(samples: Sequence[Sample]) -> tuple[str, str] | None:
    """Filter and metric that give a task's verdicts; None where no metric is of only 0 and 1."""
    for name in dict.fromkeys(sample["filter"] for sample in samples):
        same = [sample for sample in samples if sample["filter"] == name]
        for metric in same[0]["metrics"]:
            if all(_is_verdict(sample.get(metric)) for sample in same):
                return name, metric
    return None


def _is_verdict(value: Any) -> bool:
    try:
        return float(value) in (0.0, 1.0)
    except (TypeError, ValueError):
        return False


def answers(
    task: str,
    samples: Sequence[Sample],
    records: Records,
    question: Callable[[Mapping[str, Any]], str | None],
    mc: Mapping[str, Any],
) -> list[Answer]:
    """A task's answers, by document. question: a document's, without the few-shot examples; mc: what its
    likelihoods were estimated with."""
    by = scored_by(samples)
    if by is None:
        return []
    filtered = [sample for sample in samples if sample["filter"] == by[0]]
    names = [str(sample["doc"].get("id", sample["doc_id"])) for sample in filtered]
    if len(set(names)) < len(names):
        names = [str(sample["doc_id"]) for sample in filtered]
    return [
        _answer(task, name, sample, by[1], records.of(task, sample["doc_id"]), question, mc)
        for name, sample in zip(names, filtered, strict=True)
    ]


def _answer(
    task: str,
    name: str,
    sample: Sample,
    metric: str,
    records: Sequence[TaskRecord],
    question: Callable[[Mapping[str, Any]], str | None],
    mc: Mapping[str, Any],
) -> Answer:
    same: dict[str, Any] = {
        "benchmark": task,
        "problem": name,
        "sample": 0,
        "question": question(sample["doc"]) or str(sample["arguments"][0][0]),
    }
    is_right = float(sample[metric]) == 1.0
    same["num_cut"] = max((r.get("num_cut") or 0 for r in records), default=0)
    failed = next((r for r in records if r.get("error")), None)  # of several samples one is enough
    first = failed or (records[0] if records else {})
    if "response" not in first:
        return _chosen(same, sample, metric, is_right, records, mc)
    same = {**first, **same, "expected": _text(sample["target"])}
    if failed:
        return Answer(**same, predicted=None, verdict=FAILED)
    read = _text(sample["filtered_resps"][0])
    predicted = None if read in NOTHING_READ else read
    wrong = NO_ANSWER if predicted is None else WRONG
    return Answer(**same, predicted=predicted, verdict=CORRECT if is_right else wrong)


def _chosen(
    same: Mapping[str, Any],
    sample: Sample,
    metric: str,
    is_right: bool,
    records: Sequence[TaskRecord],
    mc: Mapping[str, Any],
) -> Answer:
    """Of a likelihood task: the choice that the metric takes. One continuation alone is its own choice."""
    texts = [str(arguments[1]).strip() for arguments in sample["arguments"]]
    norm = NORMS.get(metric, lambda text: 1)
    scores = [
        float(pair[0]) / max(norm(t), 1) for pair, t in zip(sample["filtered_resps"], texts, strict=True)
    ]
    count = len(scores) // 2 if metric == "acc_mutual_info" else len(scores)
    if metric == "acc_mutual_info":
        scores = [a - b for a, b in zip(scores[:count], scores[count:], strict=True)]
    chosen = texts[max(range(count), key=scores.__getitem__)]
    predicted = chosen if count > 1 or is_right else None
    target = sample["target"]
    expected = texts[target] if isinstance(target, int) and 0 <= target < count else _text(target)
    return Answer(
        **same,
        expected=expected,
        response=chosen if count > 1 else "",
        predicted=predicted,
        verdict=CORRECT if is_right else WRONG,
        seed=mc["mc_seed"],
        prompt_tokens=records[0]["prompt_tokens"] if records else None,
        nfe=sum(r["nfe"] for r in records),
        num_positions=sum(r["num_positions"] for r in records),
        decoding=dict(mc),
    )


def _text(value: Any) -> str:
    while isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) else str(value)
