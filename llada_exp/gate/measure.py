"""What the gate decodes: vanilla and every setting, on the embedded model's held-out problems.

Runs the engine in this process. Knows the engine and the tasks; prints nothing, and judges nothing but
whether an answer is right.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llada_exp.decoding import DecodingError
from llada_exp.gate import strata
from llada_exp.gate.exactness import Exactness, exactness
from llada_exp.gate.outcome import Outcome, against, joined, outcome
from llada_exp.offline import Engine, as_params
from llada_exp.scoring import Scorer
from llada_exp.tiny.judging import is_right
from llada_exp.tiny.tasks import TinyProblem, messages
from llada_exp.types import DecodingParams

VANILLA = "vanilla"
Fields = Mapping[str, Any]
"""Of decoding, by name, as a request names them."""
Place = tuple[str, str, int | None]
"""Kind, setting, canvas."""


def plan(settings: Mapping[str, Fields], canvas: int) -> dict[str, DecodingParams]:
    """Parameters by name, vanilla first: what a setting does not name is vanilla's. canvas: max_tokens of
    those that name none. Raises ValueError naming a bad setting."""
    if VANILLA in settings:
        raise ValueError(f"settings.{VANILLA}: the name is taken; expected another")
    return {name: _params(name, fields, canvas) for name, fields in {VANILLA: {}, **settings}.items()}


def _params(name: str, fields: Fields, canvas: int) -> DecodingParams:
    try:
        return as_params(fields, DecodingParams(max_tokens=canvas))
    except DecodingError as error:
        raise ValueError(f"settings.{name}: {error}") from None


def measure_exactness(
    engine: Engine, kinds: Sequence[str], settings: Mapping[str, Fields], num_problems: int, canvas: int
) -> list[Exactness]:
    """Vanilla and every setting against the oracle, on the first problems of each kind. Raises ValueError as
    `plan` does, and where the model is not float32."""
    params = plan(settings, canvas)
    return exactness(
        engine, {k: strata.problems(k, num_problems) for k in kinds}, dict.fromkeys(kinds, params)
    )


def measure_quality(
    engine: Engine,
    num_problems: Mapping[str, int],
    canvases: Sequence[int],
    settings: Mapping[str, Fields],
    report: Callable[[Outcome], None] = lambda outcome: None,
    earlier: Mapping[Place, Outcome] | None = None,
) -> list[Outcome]:
    """Per kind vanilla first, once, at the canvas that just holds the kind's answers: there it is at its best
    (a longer one costs the embedded model answers, which would hide what a setting loses) and costs least.
    Then every setting at every canvas, each compared with it. num_problems: by kind. `earlier`: what another
    run measured of the first problems, which is not decoded again. Raises ValueError as `plan` and
    `strata.problems` do, before anything runs."""
    outcomes: list[Outcome] = []
    drawn = {kind: strata.problems(kind, n) for kind, n in num_problems.items()}
    plans = {canvas: plan(settings, canvas) for canvas in canvases}

    def outcome_of(kind: str, name: str, params: DecodingParams, canvas: int) -> Outcome:
        measured = (earlier or {}).get((kind, name, canvas))
        num_done = measured.accuracy.n if measured else 0
        if num_done < len(drawn[kind]):
            fresh = replace(measure(engine, kind, drawn[kind][num_done:], name, params), canvas=canvas)
            measured = joined(measured, fresh) if measured else fresh
        assert measured is not None
        return measured

    for kind in drawn:
        best = strata.STRATA[kind].canvas
        vanilla = outcome_of(kind, VANILLA, plan({}, best)[VANILLA], best)
        outcomes.append(vanilla)
        report(vanilla)
        for canvas in canvases:
            for name in settings:
                outcomes.append(against(vanilla, outcome_of(kind, name, plans[canvas][name], canvas)))
                report(outcomes[-1])
    return outcomes


def measure(
    engine: Engine, kind: str, problems: Sequence[TinyProblem], setting: str, params: DecodingParams
) -> Outcome:
    """Decode every problem under one setting and score it."""
    started = time.perf_counter()
    outputs = engine.chat([messages(p) for p in problems], params, progress=sys.stderr.isatty())
    seconds = time.perf_counter() - started
    with Scorer() as scorer:
        correct = tuple(is_right(scorer, p, o.text) for p, o in zip(problems, outputs, strict=True))
    return outcome(setting, kind, outputs, correct, seconds, params.max_tokens)
