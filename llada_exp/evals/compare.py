"""Two evaluations on the same problems against each other, paired: what did the change cost?

    python -m llada_exp.evals.compare outputs/evals/vanilla outputs/evals/dual

One sample a problem: McNemar's exact test, and the difference with its score interval. Several: each
problem's share of right samples, with a sign-flip permutation test. Knows answers.jsonl only.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from llada_exp.evals import answers
from llada_exp.evals.answers import Answer
from llada_exp.evals.scores import by_problem, right
from llada_exp.programs import run_program
from llada_exp.runs.statistics import paired, paired_means, probability
from llada_exp.tables import wrapped


@dataclass(frozen=True)
class Comparison:
    """Run b against run a on one benchmark.

    difference: accuracy(b) - accuracy(a), with its 95 % interval; gained, lost: problems that only b, or
    only a, has right (with several samples: has more often right); same_text: share of responses that are
    the very same; test: which one p_value is of.
    """

    benchmark: str
    num_problems: int
    num_samples: int
    accuracy_a: float
    accuracy_b: float
    difference: float
    low: float
    high: float
    gained: int
    lost: int
    p_value: float
    test: str
    same_text: float


def compare(a: Sequence[Answer], b: Sequence[Answer], common: bool = False) -> list[Comparison]:
    """One comparison a benchmark that both have. common: on the problems that both have.

    Raises ValueError where they have no benchmark in common, and without `common` where the problems or
    the numbers of samples differ.
    """
    names = [n for n in dict.fromkeys(x.benchmark for x in a) if any(x.benchmark == n for x in b)]
    if not names:
        of_a, of_b = (", ".join(sorted({x.benchmark for x in run})) or "nothing" for run in (a, b))
        raise ValueError(f"no benchmark in common: {of_a} and {of_b}")
    return [
        _one(name, [x for x in a if x.benchmark == name], [x for x in b if x.benchmark == name], common)
        for name in names
    ]


def _one(name: str, a: Sequence[Answer], b: Sequence[Answer], common: bool) -> Comparison:
    first, second = by_problem(a), by_problem(b)
    ids = [i for i in first if i in second]
    if not common and not len(ids) == len(first) == len(second):
        raise ValueError(
            f"{name}: of {len(first)} and {len(second)} problems, {len(ids)} are in both: --common compares "
            "those"
        )
    if any(first[i][0].question != second[i][0].question for i in ids):
        raise ValueError(f"{name}: the same ids stand for different questions; these are different problems")
    counts = {len(run[i]) for run in (first, second) for i in ids}
    if len(counts) != 1:
        raise ValueError(f"{name}: samples a problem differ: {', '.join(map(str, sorted(counts)))}")
    (k,) = counts
    x, y = ([right(run[i]) / k for i in ids] for run in (first, second))
    same = [p.response == q.response for i in ids for p, q in zip(first[i], second[i], strict=True)]
    test = paired([s == 1 for s in x], [s == 1 for s in y]) if k == 1 else paired_means(x, y)
    return Comparison(
        benchmark=name,
        num_problems=len(ids),
        num_samples=k,
        accuracy_a=sum(x) / len(ids),
        accuracy_b=sum(y) / len(ids),
        difference=test.difference,
        low=test.low,
        high=test.high,
        gained=sum(q > p for p, q in zip(x, y, strict=True)),
        lost=sum(q < p for p, q in zip(x, y, strict=True)),
        p_value=test.p_value,
        test="McNemar, exact" if k == 1 else "sign flips",
        same_text=sum(same) / len(same),
    )


def line(c: Comparison) -> str:
    """For a person: a line of figures in percent, and one of words."""
    samples = f", {c.num_samples} samples each" if c.num_samples > 1 else ""
    return (
        f"{c.benchmark}: {c.num_problems} problems{samples}: {100 * c.accuracy_a:.1f} % -> "
        f"{100 * c.accuracy_b:.1f} %, {100 * c.difference:+.1f} points "
        f"[{100 * c.low:+.1f}, {100 * c.high:+.1f}], p = {probability(c.p_value)} ({c.test}); "
        f"{c.gained} gained, {c.lost} lost, {100 * c.same_text:.0f} % of texts the same"
    )


def read_run(path: Path) -> list[Answer]:
    """Of an evaluation's folder, or its answers.jsonl. Raises ValueError."""
    return answers.read(path / answers.FILE if path.is_dir() else path)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m llada_exp.evals.compare", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("a", type=Path, help="an evaluation's folder: the one compared with")
    parser.add_argument("b", type=Path, help="the other's")
    parser.add_argument("--common", action="store_true", help="only problems that both have")
    parser.add_argument("--json", action="store_true", help="one JSON object a benchmark")
    args = parser.parse_args(argv)
    try:
        comparisons = compare(read_run(args.a), read_run(args.b), args.common)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for comparison in comparisons:
        print(json.dumps(asdict(comparison)) if args.json else wrapped(line(comparison), indent="  "))
    return 0


if __name__ == "__main__":
    run_program(main)
