"""An answer and what each pass did to it, from rows of `bench.schema.COMMIT`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llada_exp.types import RULES_WITH, SCHEDULE

NEEDED = ("step", "passes", "position", "token", "confidence", "revoked", "decoding", "question", "answer")
OF_REFRESH = {"window": "refresh_window", "prompt_every": "refresh_interval"}


@dataclass(frozen=True)
class Written:
    """A token that a pass committed. text: "" of an end of text; confidence: its probability then."""

    position: int
    text: str
    confidence: float


@dataclass(frozen=True)
class TracedPass:
    """revoked: positions that became masks again, before `written` was. Both may be empty."""

    written: tuple[Written, ...] = ()
    revoked: tuple[int, ...] = ()


@dataclass(frozen=True)
class TracedAnswer:
    """label: what to call its setting; setting: that in fields; length: positions of the canvas."""

    label: str
    setting: str
    question: str
    text: str
    length: int
    block_length: int
    passes: tuple[TracedPass, ...]

    @property
    def num_touched(self) -> int:
        """Positions up to the end of the last block that a pass changed; masks beyond it stayed masks."""
        last = max((w.position for p in self.passes for w in p.written), default=0)
        return min(self.length, (last // self.block_length + 1) * self.block_length)


def traced(rows: Sequence[Mapping[str, Any]], label: str | None = None) -> TracedAnswer:
    """The answer of one request's rows. label: by default what the setting is called.

    Raises ValueError for no rows, and for rows that do not say what is needed.
    """
    if not rows:
        raise ValueError("no row of a trace is there; ask with trace=true")
    first = rows[0]
    if missing := [name for name in NEEDED if name not in first]:
        raise ValueError(
            f"the rows have no {', '.join(missing)}; measure them again with decoding.trace=true"
        )
    if any(row["token"] is None and not row["revoked"] for row in rows):
        raise ValueError("the rows have no text of tokens: the server that was asked does not give it")
    decoding = json.loads(first["decoding"])
    written: list[list[Written]] = [[] for _ in range(first["passes"])]
    revoked: list[list[int]] = [[] for _ in range(first["passes"])]
    for row in rows:
        if row["revoked"]:
            revoked[row["step"]].append(row["position"])
        else:
            written[row["step"]].append(Written(row["position"], row["token"], row["confidence"]))
    last = max(row["position"] for row in rows)
    return TracedAnswer(
        label=label or label_of(decoding),
        setting=setting_of(decoding),
        question=first["question"],
        text=first["answer"],
        length=max(decoding["max_tokens"], last + 1),
        block_length=decoding["block_length"] or last + 1,
        passes=tuple(TracedPass(tuple(w), tuple(r)) for w, r in zip(written, revoked, strict=True)),
    )


def setting_of(decoding: Mapping[str, Any]) -> str:
    """The rule, the cache with what belongs to them, and how far a row is seen, as fields of a request."""
    rule, cache = decoding["rule"], decoding["cache"]
    names = ["rule", *(n for n, rules in RULES_WITH.items() if rule in rules), *SCHEDULE, "cache"]
    if cache != "none":
        refresh = decoding["refresh"]
        names += ["refresh", *([OF_REFRESH[refresh]] if refresh in OF_REFRESH else [])]
    names.append("suffix_window")
    return "  ".join(f"{name}={decoding[name]}" for name in names if decoding.get(name) is not None)


def label_of(decoding: Mapping[str, Any]) -> str:
    shortened = any(decoding.get(name) is not None for name in (*SCHEDULE, "suffix_window"))
    is_vanilla = decoding["rule"] == "fixed" and decoding["cache"] == "none" and not shortened
    return "vanilla" if is_vanilla else f"rule {decoding['rule']}"
