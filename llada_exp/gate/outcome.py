"""What the gate measured of one setting on one kind of problem: compared, continued, kept, printed.

Knows answers that are right or wrong, and no engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llada_exp import jsonl
from llada_exp.gate import verdict
from llada_exp.runs.statistics import Paired, Proportion, paired, proportion
from llada_exp.types import RequestOutput


@dataclass(frozen=True)
class Outcome:
    """One setting on one kind of problem.

    versus: against vanilla on the same problems; None for vanilla itself.
    agreement: share of answers with vanilla's very text.
    nfe, tpf, positions_per_token: means over problems, ratio of sums for the latter two.
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


def outcome(
    setting: str, kind: str, outputs: Sequence[RequestOutput], correct: tuple[bool, ...], seconds: float
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
    )


def joined(first: Outcome, rest: Outcome) -> Outcome:
    """Both parts of one setting's problems as one outcome, not yet compared."""
    parts = (first, rest)
    passes = [part.nfe * part.accuracy.n for part in parts]
    tokens = [part.tpf * own for part, own in zip(parts, passes, strict=True)]
    positions = [part.positions_per_token * own for part, own in zip(parts, tokens, strict=True)]
    seconds = [own / part.output_throughput for part, own in zip(parts, tokens, strict=True)]
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
    same = sum(a == b for a, b in zip(vanilla.texts, other.texts, strict=True))
    return replace(other, versus=paired(vanilla.correct, other.correct), agreement=same / len(other.texts))


def judged(outcome: Outcome, limits: verdict.Limits) -> verdict.Verdict:
    """Of a setting; vanilla has nothing to be compared with."""
    assert outcome.versus is not None
    o, n = outcome, outcome.accuracy.n
    return verdict.quality(o.setting, o.kind, outcome.versus, o.agreement, n, limits)


def known_outcomes(path: Path, num_problems: int) -> dict[tuple[str, str], Outcome]:
    """An earlier run's outcomes on as many problems or fewer, by kind and setting; the last of each. Raises
    ValueError naming a file that holds none."""
    found = {}
    try:
        for row in jsonl.read(path):
            if len(row["correct"]) <= num_problems:
                versus = None if row["versus"] is None else Paired(**row["versus"])
                answers = {key: tuple(row[key]) for key in ("correct", "texts")}
                own = {**row, **answers, "accuracy": Proportion(**row["accuracy"]), "versus": versus}
                found[row["kind"], row["setting"]] = Outcome(**own)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"resume is {str(path)!r}; expected a gate's outcomes.jsonl ({error})") from None
    return found


HEADER = (
    f"{'setting':<20} {'kind':<6} {'n':>4} {'accuracy % [95 %]':<20} {'vs vanilla [95 %]':<22} "
    f"{'McNemar p':>9} {'same':>5} {'NFE':>6} {'TPF':>5} {'pos/tok':>8} {'tok/s':>7}  verdict"
)


def row(outcome: Outcome, limits: verdict.Limits | None = None) -> str:
    """One line under `HEADER`; its verdict where limits are given."""
    a, v = outcome.accuracy, outcome.versus
    accuracy = f"{100 * a.value:5.1f} [{100 * a.low:.1f}, {100 * a.high:.1f}]"
    versus = f"{100 * v.difference:+5.1f} [{100 * v.low:+.1f}, {100 * v.high:+.1f}]" if v else "-"
    p_value = f"{v.p_value:.2g}" if v else "-"
    return (
        f"{outcome.setting:<20} {outcome.kind:<6} {a.n:>4} {accuracy:<20} {versus:<22} {p_value:>9} "
        f"{100 * outcome.agreement:>4.0f}% {outcome.nfe:>6.1f} {outcome.tpf:>5.2f} "
        f"{outcome.positions_per_token:>8.1f} {outcome.output_throughput:>7.0f}  "
        f"{judged(outcome, limits).word if v and limits else '-'}"
    )
