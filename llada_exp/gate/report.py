"""What a person sees of the gate: lines as it goes along, and its word at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence

from llada_exp.gate.exactness import Exactness
from llada_exp.gate.measure import VANILLA
from llada_exp.gate.outcome import Outcome
from llada_exp.gate.verdict import PASS, Limits, Verdict, failing, quality_verdict

_COLUMNS = {
    "setting": "<20", "kind": "<6", "n": ">4", "accuracy % [95 %]": "<20", "vs vanilla [95 %]": "<22",
    "McNemar p": ">9", "same": ">5", "NFE": ">6", "TPF": ">5", "pos/tok": ">8", "tok/s": ">7", " verdict": "",
}  # fmt: skip
"""Heading and width."""

HEADER = " ".join(f"{name:{width}}" for name, width in _COLUMNS.items())


def row(outcome: Outcome, limits: Limits | None = None) -> str:
    """One line under `HEADER`; its verdict where limits are given."""
    cells = [outcome.setting, outcome.kind, *figures(outcome), f" {word(outcome, limits)}"]
    return " ".join(f"{cell:{width}}" for cell, width in zip(cells, _COLUMNS.values(), strict=True))


def word(outcome: Outcome, limits: Limits | None) -> str:
    """pass, fail or undecided; "-" of vanilla, and without limits."""
    return quality_verdict(outcome, limits).word if outcome.versus and limits else "-"


def figures(outcome: Outcome) -> list[str]:
    """From the number of problems to tokens/s, as texts; "-" for what is not known."""
    accuracy, versus = outcome.accuracy, outcome.versus
    difference, p_value = "-", "-"
    if versus is not None:
        interval = f"[{100 * versus.low:+.1f}, {100 * versus.high:+.1f}]"
        difference, p_value = f"{100 * versus.difference:+5.1f} {interval}", f"{versus.p_value:.2g}"
    return [
        f"{accuracy.n}",
        f"{100 * accuracy.value:5.1f} [{100 * accuracy.low:.1f}, {100 * accuracy.high:.1f}]",
        difference,
        p_value,
        f"{100 * outcome.agreement:.0f} %",
        f"{outcome.nfe:.1f}",
        f"{outcome.tpf:.2f}",
        f"{outcome.positions_per_token:.1f}",
        "-" if math.isnan(outcome.output_throughput) else f"{outcome.output_throughput:.0f}",
    ]


def exact_row(exactness: Exactness) -> str:
    """One line on exactness."""
    e, name = exactness, f"{exactness.setting:<20} {exactness.kind:<6}"
    if e.undefined is not None:
        return f"{name} no oracle: {e.undefined}"
    return f"{name} {e.num_equal} of {e.n} exact, {e.num_passes} passes, {e.num_ties} ties"


def exact_sum(exactnesses: Sequence[Exactness]) -> str:
    """The last line on exactness."""
    equal, n, passes, ties = (
        sum(getattr(e, name) for e in exactnesses) for name in ("num_equal", "n", "num_passes", "num_ties")
    )
    return f"in all: {equal} of {n} exact, {passes} passes, {ties} ties"


def conclude(
    verdicts: Sequence[Verdict], undecided: str, fail: bool, unjudged: Sequence[Exactness] = ()
) -> int:
    """Say which do not pass and by how much. unjudged: settings of which there is no verdict. The exit code;
    a failure's, where there is no verdict at all or vanilla's alone beside such settings."""
    for e in unjudged:
        print(f"not judged: {e.setting}, {e.kind}: no oracle ({e.undefined}), no problems to compare")
    if not verdicts or (unjudged and all(v.setting == VANILLA for v in verdicts)):
        print("gate: nothing was judged: no setting to compare, and none held to the oracle", flush=True)
        return 1 if fail else 0
    bad = failing(verdicts, undecided)
    for verdict in verdicts:
        if verdict.word != PASS:
            print(f"{verdict.word}: {verdict}{'' if verdict in bad else ' (let through)'}")
    print(f"gate: {f'{len(bad)} of {len(verdicts)} verdicts do not pass' if bad else 'pass'}", flush=True)
    return 1 if bad and fail else 0
