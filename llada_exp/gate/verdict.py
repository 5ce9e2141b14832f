"""The gate's rule: pass, fail, or too few problems to tell. Measures in, words out; decodes nothing.

A setting passes where two things are shown at 95 %, both against vanilla on the same problems:
    accuracy:  the low end of the paired interval of the difference is above -margin (non-inferiority);
    agreement: of the answers that vanilla has right, the low end of the share with its very text is at least
    min_agreement.
It fails where the interval of either lies wholly on the wrong side. In between it is undecided: such a run
has too few problems for the margin, whatever it found, and is not evidence that nothing was lost. Where
nothing at all is lost, `fewest_problems(margin)` are needed: 381 for 1 point, 189 for 2, 73 for 5. The margin
is the kind's own (gate/strata.py), unless one is named for all.

Exactness has no interval: one pass that is not the oracle's is a failure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llada_exp.gate.exactness import Exactness
from llada_exp.gate.outcome import HttpSample, Outcome, num_comparable
from llada_exp.gate.strata import STRATA
from llada_exp.runs.statistics import Z95, Paired, proportion

PASS, FAIL, UNDECIDED = "pass", "fail", "undecided"
OTHER_MARGIN = 2.0
"""Of a kind that is no stratum, in rows of others."""


@dataclass(frozen=True)
class Limits:
    """margin: points of accuracy, above 0; None: each kind's own (gate/strata.py). min_agreement: percent of
    answers, 0 = any text will do.

    Raises ValueError naming the key.
    """

    margin: float | None = None
    min_agreement: float = 90.0

    def __post_init__(self) -> None:
        for key, lowest in (("margin", "above 0"), ("min_agreement", "from 0")):
            value = getattr(self, key)
            if key == "margin" and value is None:
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value <= 100 or (key == "margin" and value == 0):
                raise ValueError(f"{key} is {value!r}; expected a number {lowest} to 100")

    def margin_of(self, outcome: Outcome) -> float:
        """The one named here, else the row's, else its kind's."""
        for margin in (self.margin, outcome.margin):
            if margin is not None:
                return margin
        stratum = STRATA.get(outcome.kind)
        return stratum.margin if stratum else OTHER_MARGIN


@dataclass(frozen=True)
class Verdict:
    """word: pass, fail or undecided. why: by how much; empty where it passes. canvas: max_tokens, None where
    it plays no part."""

    setting: str
    kind: str
    word: str
    why: str = ""
    canvas: int | None = None

    def __str__(self) -> str:
        canvas = "" if self.canvas is None else f", canvas {self.canvas}"
        return f"{self.setting}, {self.kind}{canvas}: {self.why or self.word}"


def fewest_problems(margin: float) -> int:
    """How many problems a setting that loses none of them needs to pass."""
    return math.floor(Z95**2 * (100 / margin - 1)) + 1


def verdicts(
    outcomes: Sequence[Outcome],
    exactnesses: Sequence[Exactness],
    limits: Limits,
    samples: Sequence[HttpSample] = (),
) -> list[Verdict]:
    """The gate's word on each: exactness where it has an oracle, quality where there is a comparison, and
    what came over HTTP."""
    exact = [exact_verdict(e) for e in exactnesses if e.undefined is None]
    quality = [quality_verdict(o, limits) for o in outcomes if o.versus is not None]
    return [*exact, *quality, *map(http_verdict, samples)]


def unjudged(outcomes: Sequence[Outcome], exactnesses: Sequence[Exactness]) -> list[Exactness]:
    """Settings that the oracle does not decode, and that were not compared with vanilla either."""
    compared = {(o.setting, o.kind) for o in outcomes}
    return [e for e in exactnesses if e.undefined is not None and (e.setting, e.kind) not in compared]


def failing(verdicts: Iterable[Verdict], undecided: str = FAIL) -> list[Verdict]:
    """What the gate does not let through. undecided: `fail` or `pass`, what such a verdict counts as."""
    words = {FAIL} if undecided == PASS else {FAIL, UNDECIDED}
    return [verdict for verdict in verdicts if verdict.word in words]


def exact_verdict(exactness: Exactness) -> Verdict:
    """Of a setting that the oracle decodes."""
    assert exactness.undefined is None
    e = exactness
    if e.num_equal == e.n:
        return Verdict(e.setting, e.kind, PASS)
    share = f"{e.num_equal} of {e.n} answers are the oracle's"
    return Verdict(e.setting, e.kind, FAIL, f"not exact, {share}; {e.difference}")


def quality_verdict(outcome: Outcome, limits: Limits) -> Verdict:
    """Of a setting; vanilla has nothing to be compared with."""
    assert outcome.versus is not None
    n = outcome.accuracy.n
    parts = [
        _accuracy(outcome.versus, n, limits.margin_of(outcome)),
        _agreement(outcome.agreement, num_comparable(outcome), limits.min_agreement),
    ]
    words = [word for word, _ in parts]
    worst = next(word for word in (FAIL, UNDECIDED, PASS) if word in words)
    why = "; ".join(why for word, why in parts if word != PASS)
    return Verdict(outcome.setting, outcome.kind, worst, why, outcome.canvas)


def http_verdict(sample: HttpSample) -> Verdict:
    """Of answers over HTTP."""
    if sample.num_equal == sample.n:
        return Verdict("over HTTP", "all kinds", PASS, canvas=sample.canvas)
    share = f"{sample.num_equal} of {sample.n} answers are the engine's"
    return Verdict("over HTTP", "all kinds", FAIL, f"{share}; {sample.difference}", sample.canvas)


def _accuracy(versus: Paired, n: int, margin: float) -> tuple[str, str]:
    low, high = 100 * versus.low, 100 * versus.high
    figures = f"accuracy {100 * versus.difference:+.1f} points [{low:+.2f}, {high:+.2f}] against vanilla"
    if low > -margin:
        return PASS, ""
    if high < -margin:
        return FAIL, f"{figures}, more than {margin:g} below it"
    why = f"{figures}: {n} problems cannot tell whether it stays within {margin:g}"
    if n < fewest_problems(margin):
        why += f" (if none is lost, {fewest_problems(margin)} can)"
    return UNDECIDED, why


def _agreement(agreement: float, n: int, least: float) -> tuple[str, str]:
    same = round(agreement * n)
    share = proportion([True] * same + [False] * (n - same))
    figures = f"vanilla's text in {100 * agreement:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"
    if 100 * share.low >= least or least == 0:
        return PASS, ""
    if 100 * share.high < least:
        return FAIL, f"{figures} of its right answers, expected {least:g} %"
    return UNDECIDED, f"{figures} of its right answers: {n} cannot tell whether it is {least:g} %"
