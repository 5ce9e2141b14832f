"""What a benchmark's answers add up to: pass@1, majority@k, pass@k, each with its interval, and what went
wrong counted apart.

Knows answers and statistics; no harness and no server. A failed answer (no response) counts as wrong, and
is counted by itself too. Intervals are of 95 %: Wilson's for shares of problems; where a problem's value
is itself a mean over samples, a bootstrap over problems, since samples of one problem are not independent.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from llada_exp.evals.answers import FAILED, Answer
from llada_exp.runs.statistics import bootstrap, proportion
from llada_exp.scoring import CORRECT, NO_ANSWER, vote

CUT_OFF = "length"


@dataclass(frozen=True)
class ScoreEstimate:
    """A mean over problems, 0 .. 1, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """Of one benchmark.

    accuracy: pass@1, the mean over problems of the share of right samples. majority: the most frequent
    prediction of each problem is right; of those tied for it, the share that is. pass_at: k -> at least
    one of k samples is right, without bias (Chen et al., arXiv 2107.03374); majority None and pass_at
    only {1: ...} where problems have one sample.
    cut_off, no_answer: shares of answers that ended at the length limit, and that nothing could be read
    out of; failed: number of answers that never came; cut_to_fit: of those that were cut to fit the model.
    mean_output_tokens, mean_nfe: of an answer; tpf: tokens per forward pass, ratio of sums; None where
    not all that came are known.
    """

    benchmark: str
    num_problems: int
    num_samples: int
    accuracy: ScoreEstimate
    majority: ScoreEstimate | None
    pass_at: Mapping[int, ScoreEstimate]
    cut_off: float
    no_answer: float
    failed: int
    cut_to_fit: int
    mean_output_tokens: float | None
    mean_nfe: float | None
    tpf: float | None

    @property
    def pass_k(self) -> ScoreEstimate | None:
        """pass@k of all samples; None with one."""
        return self.pass_at[self.num_samples] if self.num_samples > 1 else None


def score(answers: Sequence[Answer]) -> Scores:
    """Scores of one benchmark's answers. Raises ValueError where problems differ in their number of
    samples: the run is not finished."""
    problems = by_problem(answers)
    counts = Counter(len(samples) for samples in problems.values())
    if len(counts) != 1:
        numbers = ", ".join(f"{n} problems with {k}" for k, n in sorted(counts.items()))
        raise ValueError(f"answers are missing: of samples a problem, there are {numbers}")
    (num_samples,) = counts
    groups = list(problems.values())
    came = [a for a in answers if a.verdict != FAILED]
    tokens, nfe = _total(came, lambda a: a.output_tokens), _total(came, lambda a: a.nfe)
    return Scores(
        benchmark=answers[0].benchmark,
        num_problems=len(groups),
        num_samples=num_samples,
        accuracy=estimate([right(samples) / num_samples for samples in groups]),
        majority=estimate([majority(samples) for samples in groups]) if num_samples > 1 else None,
        pass_at={
            k: estimate([pass_at(k, num_samples, right(samples)) for samples in groups])
            for k in ks(num_samples)
        },
        cut_off=_share(answers, lambda a: a.finish_reason == CUT_OFF),
        no_answer=_share(answers, lambda a: a.verdict == NO_ANSWER),
        failed=len(answers) - len(came),
        cut_to_fit=sum(a.num_cut > 0 for a in answers),
        mean_output_tokens=None if tokens is None else tokens / len(came),
        mean_nfe=None if nfe is None else nfe / len(came),
        tpf=tokens / nfe if tokens is not None and nfe else None,
    )


def by_problem(answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    """A problem's samples in their order."""
    problems: dict[str, list[Answer]] = {a.problem: [] for a in answers}
    for answer in sorted(answers, key=lambda a: a.sample):
        problems[answer.problem].append(answer)
    return problems


def right(samples: Sequence[Answer]) -> int:
    return sum(a.verdict == CORRECT for a in samples)


def majority(samples: Sequence[Answer]) -> float:
    """Whether the most frequent prediction is right: 0 or 1, and a share where several are as frequent,
    so that the order of samples does not matter."""
    votes: dict[str, list[Answer]] = defaultdict(list)
    for answer in samples:
        if answer.predicted is not None:
            votes[vote(answer.predicted)].append(answer)
    most = max(map(len, votes.values()), default=0)
    first = [same for same in votes.values() if len(same) == most]
    return sum(any(a.correct for a in same) for same in first) / len(first) if first else 0.0


def pass_at(k: int, n: int, num_right: int) -> float:
    """1 - C(n - right, k) / C(n, k)."""
    return 1.0 - math.comb(n - num_right, k) / math.comb(n, k)


def ks(n: int) -> list[int]:
    """1, 2, 4 ... and n."""
    return sorted({n, *(2**i for i in range(n.bit_length()) if 2**i <= n)})


def estimate(values: Sequence[float]) -> ScoreEstimate:
    """The mean of a value per problem with its interval. Without spread a bootstrap would claim to be
    certain: Wilson's interval stands in."""
    if all(v in (0.0, 1.0) for v in values):
        share = proportion([v == 1.0 for v in values])
        return ScoreEstimate(share.value, share.low, share.high)
    mean = sum(values) / len(values)
    return ScoreEstimate(mean, *bootstrap(values))


def _share(answers: Sequence[Answer], what: Callable[[Answer], bool]) -> float:
    return sum(map(what, answers)) / len(answers)


def _total(answers: Sequence[Answer], what: Callable[[Answer], int | None]) -> int | None:
    values = [value for a in answers if (value := what(a)) is not None]
    return sum(values) if values and len(values) == len(answers) else None
