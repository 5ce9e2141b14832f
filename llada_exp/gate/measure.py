"""What the gate decodes: vanilla and every setting, on the embedded model's held-out problems.

Runs the engine in this process. Knows the engine and the tasks; prints nothing, and judges nothing but
whether an answer is right.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llada_exp.decoding import DecodingError
from llada_exp.gate.exactness import Exactness, exactness
from llada_exp.gate.outcome import Outcome, against, joined, outcome
from llada_exp.offline import Engine, as_params
from llada_exp.scoring import Scorer
from llada_exp.tiny.tasks import CANVAS, TinyProblem, held_out
from llada_exp.types import DecodingParams

VANILLA = "vanilla"
Fields = Mapping[str, Any]
"""Of decoding, by name, as a request names them."""


def plans(kinds: Sequence[str], settings: Mapping[str, Fields]) -> dict[str, dict[str, DecodingParams]]:
    """Parameters by kind and name, vanilla first: what a setting does not name is vanilla's, and the canvas
    is the kind's. Raises ValueError naming a bad setting or kind."""
    if VANILLA in settings:
        raise ValueError(f"settings.{VANILLA}: the name is taken; expected another")
    every = {VANILLA: {}, **settings}
    return {kind: {name: _params(kind, name, fields) for name, fields in every.items()} for kind in kinds}


def _params(kind: str, name: str, fields: Fields) -> DecodingParams:
    if kind not in CANVAS:
        raise ValueError(f"kinds holds {kind!r}; expected {', '.join(CANVAS)}")
    try:
        return as_params(fields, DecodingParams(max_tokens=CANVAS[kind]))
    except DecodingError as error:
        raise ValueError(f"settings.{name}: {error}") from None


def measure_exactness(
    engine: Engine, kinds: Sequence[str], settings: Mapping[str, Fields], num_problems: int
) -> list[Exactness]:
    """Vanilla and every setting against the oracle, on the first problems of each kind. Raises ValueError as
    `plans` does, and where the model is not float32."""
    return exactness(engine, {k: held_out(k, num_problems) for k in kinds}, plans(kinds, settings))


def measure_quality(
    engine: Engine,
    kinds: Sequence[str],
    settings: Mapping[str, Fields],
    num_problems: int,
    report: Callable[[Outcome], None] = lambda outcome: None,
    earlier: Mapping[tuple[str, str], Outcome] | None = None,
) -> list[Outcome]:
    """Vanilla first, then every setting, per kind. `earlier`: what another run measured of the first
    problems, by kind and setting, which is not decoded again. Raises ValueError as `plans` does, before
    anything runs."""
    outcomes: list[Outcome] = []
    for kind, plan in plans(kinds, settings).items():
        problems = held_out(kind, num_problems)
        vanilla = None
        for name, params in plan.items():
            measured = (earlier or {}).get((kind, name))
            num_done = measured.accuracy.n if measured else 0
            if num_done < num_problems:
                fresh = measure(engine, kind, problems[num_done:], name, params)
                measured = joined(measured, fresh) if measured else fresh
            assert measured is not None
            vanilla = vanilla or measured
            outcomes.append(measured if name == VANILLA else against(vanilla, measured))
            report(outcomes[-1])
    return outcomes


def measure(
    engine: Engine, kind: str, problems: Sequence[TinyProblem], setting: str, params: DecodingParams
) -> Outcome:
    """Decode every problem under one setting and score it."""
    started = time.perf_counter()
    chats = [[{"role": "user", "content": problem.question}] for problem in problems]
    outputs = engine.chat(chats, params, progress=sys.stderr.isatty())
    seconds = time.perf_counter() - started
    with Scorer() as scorer:
        correct = tuple(scorer.is_right(o.text, p.answer) for p, o in zip(problems, outputs, strict=True))
    return outcome(setting, kind, outputs, correct, seconds)
