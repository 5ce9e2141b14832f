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
    """What happened. memory: process name and pid -> its resident MB over time; allowed: requests up to this
    one may be sent by now."""

    outcomes: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    ready_after_s: list[float] = field(default_factory=list)
    memory: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    kills: int = 0
    planned_kills: int = 0
    num_begun: int = 0
    allowed: int = 0
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
    if not options.no_memory:
        wrong += judge_memory(soak)
    wrong += not_exercised(soak, options)
    return wrong + [c for c in soak.complaints if c.split(":")[0] not in OUTCOMES]


def judge_memory(soak: Soak) -> list[str]:
    """What grew, and which kind of process nothing can be said of: workers that were killed live short, and
    one of them that lived long enough will do."""
    shares = {process: growth(samples) for process, samples in soak.memory.items()}
    wrong = [
        f"memory of {kind} {pid} grew by {share:.1%}"
        for (kind, pid), share in shares.items()
        if share is not None and share > GROWTH
    ]
    for kind in ("server", "worker"):
        if all(share is None for (name, _), share in shares.items() if name == kind):
            wrong.append(
                f"memory of no {kind} could be judged: none was watched {MIN_SAMPLES} times; ask for more"
                " requests or fewer kills, or --no-memory"
            )
    return wrong


def not_exercised(soak: Soak, options: argparse.Namespace) -> list[str]:
    """What was asked for and did not happen."""
    wrong = []
    if options.kill_every and not soak.planned_kills:
        wrong.append(f"no worker was killed: {options.requests} requests are fewer than --kill-every")
    elif soak.kills < soak.planned_kills:
        wrong.append(f"{soak.kills} of {soak.planned_kills} kills were made")
    wanted = {
        "ok": options.leaving + options.malformed < 1,
        "left": options.leaving,
        "refused": options.malformed,
        "killed": soak.kills,
    }
    names = {
        "ok": "was answered",
        "left": "hung up",
        "refused": "was malformed",
        "killed": "met a killed worker",
    }
    return wrong + [
        f"no request {names[kind]}"
        for kind, is_asked in wanted.items()
        if is_asked and not soak.outcomes[kind]
    ]


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
