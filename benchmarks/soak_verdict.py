"""What a soak came to: outcomes, memory, and what is wrong with them. Knows no server and no request."""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

GROWTH = 0.05
MIN_SAMPLES = 40
OUTCOMES = ("ok", "refused", "left", "killed", "wrong", "lost", "hung")


@dataclass
class Soak:
    """What happened. memory: process name and pid -> its resident MB over time."""

    outcomes: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    ready_after_s: list[float] = field(default_factory=list)
    memory: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    kills: int = 0
    seconds: float = 0.0

    def note(self, outcome: str, why: str = "") -> None:
        self.outcomes[outcome] += 1
        if why and len(self.complaints) < 20:
            self.complaints.append(f"{outcome}: {why}")


def growth(samples: Sequence[float]) -> float | None:
    """How much the last quarter is above the second, as a share; None where there are too few."""
    if len(samples) < MIN_SAMPLES:
        return None
    quarter = len(samples) // 4
    early, late = statistics.median(samples[quarter : 2 * quarter]), statistics.median(samples[-quarter:])
    return late / early - 1


def judge(soak: Soak, options: argparse.Namespace) -> list[str]:
    """What is wrong; nothing, one hopes."""
    wrong = [f"{soak.outcomes[kind]} {kind}" for kind in ("wrong", "lost", "hung") if soak.outcomes[kind]]
    if (total := sum(soak.outcomes.values())) != options.requests:
        wrong.append(f"{total} outcomes for {options.requests} requests")
    if soak.outcomes["killed"] > soak.kills * options.batch_size:
        wrong.append(f"{soak.outcomes['killed']} answers of killed workers; {soak.kills} kills explain fewer")
    for (kind, pid), samples in soak.memory.items():
        if (grown := growth(samples)) is not None and grown > GROWTH:
            wrong.append(f"memory of {kind} {pid} grew by {grown:.1%}")
    return wrong + [c for c in soak.complaints if c.split(":")[0] not in OUTCOMES]


def show(soak: Soak) -> None:
    done = sum(soak.outcomes.values())
    print(f"{done} requests in {soak.seconds:.0f} s ({done / max(soak.seconds, 1e-9):.1f} a second)")
    print("  " + ", ".join(f"{kind} {soak.outcomes[kind]}" for kind in OUTCOMES))
    if soak.ready_after_s:
        median = statistics.median(soak.ready_after_s)
        print(f"{soak.kills} workers killed; all ready again after median {median:.1f} s,"
              f" at most {max(soak.ready_after_s):.1f} s")  # fmt: skip
    for (kind, pid), samples in soak.memory.items():
        grown = growth(samples)
        verdict = "lived too shortly to judge" if grown is None else f"grew by {grown:+.1%}"
        ends = f"{samples[0]:.0f} MB at first, {samples[-1]:.0f} MB at last"
        print(f"memory of {kind} {pid}: {ends}; {verdict}")
    for complaint in soak.complaints:
        print(f"  ! {complaint}")
