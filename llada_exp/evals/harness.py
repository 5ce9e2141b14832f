"""What a harness is: a folder with one `HARNESS`, and a line in `harnesses.py`. Nothing else knows its name.

Its keys stand under its name on the command line (`lm_eval.num_mc=16`); Hydra's defaults, validation and
`--help` are derived from their declarations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llada_exp.evals.evaluation import EvalSettings
from llada_exp.evals.result import HarnessResult
from llada_exp.runs.keys import Key


@dataclass(frozen=True)
class Prepared:
    """An evaluation that a harness has looked at, and can do. Both take the evaluation's folder.

    plan: what it would run, a line each, for a dry run.
    run:  asks and scores; whatever it keeps of its own goes into the folder, where the answers that it
          returns are written for it. Raises RuntimeError where a server does not start, or none answers any
          more.
    """

    plan: Callable[[Path], list[str]]
    run: Callable[[Path], HarnessResult]


@dataclass(frozen=True)
class Harness:
    """One way to ask and to score.

    name:       as `harness=` and rows have it, and the place of its keys.
    benchmarks: those that it knows, in a line of help.
    recognises: whether a benchmark of this name is its own, where no harness is named.
    prepare:    reads and checks what there is to ask, once for `plan` and `run`; raises ValueError where it
                cannot do what is asked. Nothing is started yet.
    records:    files of its own inside the evaluation's folder, as patterns, with a JSON line for each answer
                as it comes: what `resume` goes on from beside the answers.
    """

    name: str
    benchmarks: str
    keys: tuple[Key, ...]
    recognises: Callable[[str], bool]
    prepare: Callable[[EvalSettings], Prepared]
    records: tuple[str, ...] = ()
