"""What the gate measured of one setting on one kind of problem: compared, continued, read again.

Knows answers that are right or wrong; no engine, no verdict and no print.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llada_exp import jsonl
from llada_exp.runs.statistics import Paired, Proportion, paired, proportion
from llada_exp.types import RequestOutput


@dataclass(frozen=True)
class Outcome:
    """One setting on one kind of problem.

    versus: against vanilla on the same problems; None for vanilla itself.
    agreement: share of answers with vanilla's very text, of those that vanilla has right (of all, where it
    has none right): where it is wrong its text is no standard.
    nfe, tpf, positions_per_token: means over problems, ratio of sums for the latter two.
    canvas: max_tokens; margin: points of accuracy that it was judged by; None in rows of before.
    """

    setting: str
    kind: str
    accuracy: Proportion
    versus: Paired | None
    agreement: float
    nfe: float
    tpf: float
    positions_per_token: float
    output_throughput: float
    correct: tuple[bool, ...]
    texts: tuple[str, ...]
    canvas: int | None = None
    margin: float | None = None

    @property
    def place(self) -> tuple[str, str, int | None]:
        """What it is of: kind, setting, canvas."""
        return self.kind, self.setting, self.canvas


@dataclass(frozen=True)
class HttpSample:
    """num_equal: answers of n over HTTP that are the engine's, text and passes; difference: the first other
    one, in words."""

    canvas: int
    n: int
    num_equal: int
    difference: str | None = None


def outcome(
    setting: str,
    kind: str,
    outputs: Sequence[RequestOutput],
    correct: tuple[bool, ...],
    seconds: float,
    canvas: int | None = None,
) -> Outcome:
    """Of answers, and whether each is correct; not yet compared."""
    tokens = sum(len(o.token_ids) for o in outputs)
    nfe = sum(o.nfe for o in outputs)
    return Outcome(
        setting=setting,
        kind=kind,
        accuracy=proportion(correct),
        versus=None,
        agreement=1.0,
        nfe=nfe / len(outputs),
        tpf=tokens / nfe,
        positions_per_token=sum(o.num_positions for o in outputs) / max(tokens, 1),
        output_throughput=tokens / seconds,
        correct=correct,
        texts=tuple(o.text for o in outputs),
        canvas=canvas,
    )


def joined(first: Outcome, rest: Outcome) -> Outcome:
    """Both parts of one setting's problems as one outcome, not yet compared."""
    parts = (first, rest)
    passes = [part.nfe * part.accuracy.n for part in parts]
    tokens = [part.tpf * nfe for part, nfe in zip(parts, passes, strict=True)]
    positions = [part.positions_per_token * n for part, n in zip(parts, tokens, strict=True)]
    seconds = [n / part.output_throughput for part, n in zip(parts, tokens, strict=True)]
    correct = first.correct + rest.correct
    return replace(
        first,
        accuracy=proportion(correct),
        versus=None,
        agreement=1.0,
        nfe=sum(passes) / len(correct),
        tpf=sum(tokens) / sum(passes),
        positions_per_token=sum(positions) / max(sum(tokens), 1),
        output_throughput=sum(tokens) / sum(seconds),
        correct=correct,
        texts=first.texts + rest.texts,
    )


def against(vanilla: Outcome, other: Outcome) -> Outcome:
    """`other` with its paired comparison filled in."""
    pairs = list(zip(vanilla.texts, other.texts, strict=True))
    right = [pair for pair, correct in zip(pairs, vanilla.correct, strict=True) if correct] or pairs
    same = sum(a == b for a, b in right)
    return replace(other, versus=paired(vanilla.correct, other.correct), agreement=same / len(right))


def num_comparable(outcome: Outcome) -> int:
    """Answers that `agreement` is a share of."""
    assert outcome.versus is not None
    right = outcome.accuracy.num_correct + outcome.versus.lost - outcome.versus.gained
    return right or outcome.accuracy.n


def read_outcomes(path: Path) -> list[Outcome]:
    """The rows of an outcomes.jsonl. Raises ValueError naming a file that holds others."""
    outcomes = []
    try:
        for row in jsonl.read(path):
            parts = {
                "accuracy": Proportion(**row["accuracy"]),
                "versus": None if row["versus"] is None else Paired(**row["versus"]),
                "correct": tuple(row["correct"]),
                "texts": tuple(row["texts"]),
            }
            outcomes.append(Outcome(**{**row, **parts}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected rows of llada_exp.gate ({error})") from None
    return outcomes
