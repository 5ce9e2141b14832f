"""Uncertainty of scores: intervals of a proportion, and paired comparison of two runs.

Works on lists of right and wrong; knows no model and no benchmark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Z95 = 1.959963984540054  # of two-sided 95 %
BATCH = 100
"""Resamples that are made at once: all at once would take gigabytes of thousands of problems."""


@dataclass(frozen=True)
class Proportion:
    """A share of n with its 95 % interval (Wilson, 1927)."""

    num_correct: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.num_correct / self.n


@dataclass(frozen=True)
class Paired:
    """Run b against run a on the same problems.

    difference: accuracy(b) - accuracy(a), with its 95 % score interval (Tango, 1998), which has a width also
    where the runs do not differ: no difference in 8 problems is no proof that there is none.
    gained, lost: problems that only b, or only a, has right.
    p_value: two-sided exact McNemar test (McNemar, 1947).
    """

    difference: float
    low: float
    high: float
    gained: int
    lost: int
    p_value: float


def probability(p: float) -> str:
    """A p-value in two digits; never 0, which none is."""
    return "<1e-300" if p < 1e-300 else f"{p:.2g}"


def proportion(correct: Sequence[bool]) -> Proportion:
    """Raises ValueError where there is nothing to count."""
    if not correct:
        raise ValueError("no problems: a proportion needs at least one")
    from scipy.stats import binomtest

    result = binomtest(sum(correct), len(correct))
    interval = result.proportion_ci(0.95, method="wilson")
    return Proportion(sum(correct), len(correct), float(interval.low), float(interval.high))


def paired(a: Sequence[bool], b: Sequence[bool]) -> Paired:
    """Raises ValueError where the runs are not of the same problems."""
    if len(a) != len(b) or not a:
        raise ValueError(f"a paired comparison needs the same problems; got {len(a)} and {len(b)}")
    from scipy.stats import binomtest

    gained = sum(y and not x for x, y in zip(a, b, strict=True))
    lost = sum(x and not y for x, y in zip(a, b, strict=True))
    low, high = score_interval(gained, lost, len(a))
    p_value = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    return Paired((gained - lost) / len(a), low, high, gained, lost, float(p_value))


@dataclass(frozen=True)
class PairedMeans:
    """Run b against run a, where each problem has a value (a mean over samples) in both.

    difference: mean(b) - mean(a), with its 95 % bootstrap interval over problems.
    p_value: two-sided, of the sign-flip permutation test on the differences.
    """

    difference: float
    low: float
    high: float
    p_value: float


def bootstrap(values: Sequence[float], seed: int = 0, num_resamples: int = 10_000) -> tuple[float, float]:
    """The 95 % percentile interval of the mean, problems resampled with replacement: the value itself where
    all are the same, or there is one. Raises ValueError where there is none."""
    if not values:
        raise ValueError("no problems: an interval needs at least one")
    if min(values) == max(values):  # nothing to resample: scipy would warn, and refuses a single one
        return float(values[0]), float(values[0])
    import numpy as np
    from scipy import stats

    interval = stats.bootstrap(
        (values,), np.mean, n_resamples=num_resamples, batch=BATCH, method="percentile", rng=seed
    ).confidence_interval
    return float(interval.low), float(interval.high)


def paired_means(
    a: Sequence[float], b: Sequence[float], seed: int = 0, num_flips: int = 10_000
) -> PairedMeans:
    """Raises ValueError where the runs are not of the same problems."""
    if len(a) != len(b) or not a:
        raise ValueError(f"a paired comparison needs the same problems; got {len(a)} and {len(b)}")
    import numpy as np
    from scipy import stats

    gains = np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64)
    # Of one sample the permutations are the signs of its differences. Those as they are count as one more of
    # the flips, so that p is never 0; where there are no more than num_flips, all are made. scipy wants two
    # differences at least: one that is 0 changes nothing.
    moved = np.append(gains[gains != 0], 0.0)
    p_value = 1.0
    if moved.size > 1:
        p_value = stats.permutation_test(
            (moved,), np.sum, permutation_type="samples", n_resamples=num_flips, batch=BATCH, rng=seed
        ).pvalue
    low, high = bootstrap(gains.tolist(), seed)
    return PairedMeans(float(gains.mean()), low, high, float(p_value))


def score_interval(gained: int, lost: int, n: int) -> tuple[float, float]:
    """95 % interval of P(gained) - P(lost): the differences that a score test does not reject (Tango, Stat.
    Med. 17, 1998). Asymptotic, but sound for few or no discordant pairs, where a bootstrap's collapses."""
    from scipy.optimize import brentq

    def excess(difference: float, z: float) -> float:
        """Observed minus expected, less z standard errors at the most likely P(lost) for `difference`."""
        b = -gained - lost + (2 * n - gained + lost) * difference
        c = -lost * difference * (1 - difference)
        p_lost = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = n * (2 * p_lost + difference * (1 - difference))
        return gained - lost - n * difference - z * math.sqrt(max(variance, 0.0))

    difference, edge = (gained - lost) / n, 1e-9
    low = -1.0 if lost == n else brentq(excess, -1 + edge, difference + edge, args=(Z95,))
    high = 1.0 if gained == n else brentq(excess, difference - edge, 1 - edge, args=(-Z95,))
    return float(low), float(high)
