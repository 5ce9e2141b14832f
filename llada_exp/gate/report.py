"""What a person sees of the gate: lines as it goes along, and its word at the end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from llada_exp.gate.exactness import Exactness
from llada_exp.gate.measure import VANILLA
from llada_exp.gate.outcome import Outcome
from llada_exp.gate.verdict import PASS, Limits, Verdict, failing, quality_verdict
from llada_exp.runs.statistics import Paired, Proportion, probability
from llada_exp.tables import Table, TableColumn, terminal_width, wrapped

RANKS = {"n": 8, "accuracy % [95 %]": 0, "vs vanilla, points": 0, "McNemar p": 3, "same %": 1, "NFE": 5,
         "TPF": 7, "pos/tok": 4, "tok/s": 6}  # fmt: skip
"""Of `figures`, as in a `TableColumn`."""


def table(outcomes: Sequence[Outcome], limits: Limits | None = None) -> Table:
    """A line an outcome; with its verdict where limits are given."""
    return Table(
        [
            TableColumn("setting", lambda o: o.setting, left=True),
            TableColumn("kind", lambda o: o.kind, left=True),
            TableColumn("canvas", lambda o: None if o.canvas is None else str(o.canvas), 2),
            *(TableColumn(name, partial(_figure, name), rank) for name, rank in RANKS.items()),
            TableColumn("verdict", lambda o: word(o, limits), left=True),
        ],
        outcomes,
    )


def _figure(name: str, outcome: Outcome) -> str:
    return figures(outcome)[name]


class LiveTable:
    """Outcomes as they come. names: of settings and of kinds, those to come; path: a file that has all of the
    table at any moment."""

    def __init__(
        self, settings: Iterable[str], kinds: Sequence[str], limits: Limits, path: Path | None = None
    ) -> None:
        longest = max(kinds, key=len)
        self._limits, self._path = limits, path
        rows = [_widest(name, longest) for name in settings]
        self._layout = table(rows, limits).layout(terminal_width())
        self._outcomes: list[Outcome] = []
        print(self._layout.head(), flush=True)

    def add(self, outcome: Outcome) -> None:
        """Print a line."""
        self._outcomes.append(outcome)
        print(self._layout.line(outcome), flush=True)
        if self._path:
            self._path.write_text(table(self._outcomes, self._limits).text() + "\n")

    def end(self) -> None:
        """Say what there was no room for."""
        if hint := self._layout.hint(self._path):
            print(hint, flush=True)


def _widest(setting: str, kind: str) -> Outcome:
    """An outcome whose cells are as wide as any."""
    return Outcome(
        setting=setting, kind=kind, accuracy=Proportion(9999, 9999, 1.0, 1.0), agreement=1.0, nfe=999.9,
        versus=Paired(-0.999, -0.999, 0.999, 0, 0, p_value=0.0), tpf=99.99, positions_per_token=999.9,
        output_throughput=99999.0, correct=(), texts=(), canvas=9999,
    )  # fmt: skip


def word(outcome: Outcome, limits: Limits | None) -> str:
    """pass, fail or undecided; "-" of vanilla, and without limits."""
    return quality_verdict(outcome, limits).word if outcome.versus and limits else "-"


def figures(outcome: Outcome) -> dict[str, str]:
    """Texts by their headings; "-" for what is not known. same %: texts that are vanilla's very own."""
    accuracy, versus = outcome.accuracy, outcome.versus
    difference, p_value = "-", "-"
    if versus is not None:
        interval = f"[{100 * versus.low:+.1f}, {100 * versus.high:+.1f}]"
        difference, p_value = f"{100 * versus.difference:+.1f} {interval}", probability(versus.p_value)
    speed = outcome.output_throughput
    return {
        "n": f"{accuracy.n}",
        "accuracy % [95 %]": f"{100 * accuracy.value:.1f} "
        f"[{100 * accuracy.low:.1f}, {100 * accuracy.high:.1f}]",
        "vs vanilla, points": difference,
        "McNemar p": p_value,
        "same %": f"{100 * outcome.agreement:.0f}",
        "NFE": f"{outcome.nfe:.1f}",
        "TPF": f"{outcome.tpf:.2f}",
        "pos/tok": f"{outcome.positions_per_token:.1f}",
        "tok/s": "-" if math.isnan(speed) else f"{speed:.0f}",
    }


def exact_table(exactnesses: Sequence[Exactness]) -> Table:
    """A line each: how many of n answers are exact, and over how many passes."""

    def count(heading: str, name: str, rank: int = 0) -> TableColumn:
        return TableColumn(
            heading, lambda e: str(getattr(e, name)) if e.undefined is None else None, rank=rank
        )

    columns = [
        TableColumn("setting", lambda e: e.setting, left=True),
        TableColumn("kind", lambda e: e.kind, left=True),
        count("exact", "num_equal"),
        count("of", "n"),
        count("passes", "num_passes", rank=2),
        count("ties", "num_ties", rank=1),
    ]
    return Table(columns, exactnesses)


def without_oracle(exactnesses: Sequence[Exactness], width: int) -> list[str]:
    """Why some have no figures; in lines of `width`."""
    reasons: dict[str, list[str]] = {}
    for e in exactnesses:
        if e.undefined is not None:
            reasons.setdefault(e.undefined, []).append(f"{e.setting}, {e.kind}")
    lines = [f"no oracle ({reason}): {'; '.join(names)}" for reason, names in reasons.items()]
    return [wrapped(line, width) for line in lines]


def exact_sum(exactnesses: Sequence[Exactness]) -> str:
    """The last line on exactness."""
    equal, n, passes, ties = (
        sum(getattr(e, name) for e in exactnesses) for name in ("num_equal", "n", "num_passes", "num_ties")
    )
    return f"in all: {equal} of {n} exact, {passes} passes, {ties} ties"


def conclude(
    verdicts: Sequence[Verdict],
    undecided: str,
    fail: bool,
    unjudged: Sequence[Exactness] = (),
    scope: str = "",
) -> int:
    """Say which do not pass and by how much. unjudged: settings of which there is no verdict; scope: at which
    canvas, margins and kinds. The exit code; a failure's, where there is no verdict at all or vanilla's alone
    beside such settings."""
    for e in unjudged:
        why = f"no oracle ({e.undefined}), no problems to compare"
        print(wrapped(f"not judged: {e.setting}, {e.kind}: {why}", indent="  "))
    if not verdicts or (unjudged and all(v.setting == VANILLA for v in verdicts)):
        print("gate: nothing was judged: no setting to compare, and none held to the oracle", flush=True)
        return 1 if fail else 0
    bad = failing(verdicts, undecided)
    for verdict in verdicts:
        if verdict.word != PASS:
            let_through = "" if verdict in bad else " (let through)"
            print(wrapped(f"{verdict.word}: {verdict}{let_through}", indent="  "))
    word = f"{len(bad)} of {len(verdicts)} verdicts do not pass" if bad else PASS
    print(wrapped(f"gate: {word}{f' ({scope})' if scope else ''}", indent="  "), flush=True)
    return 1 if bad and fail else 0
