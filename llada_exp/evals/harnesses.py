"""The harnesses by name. A new one is its folder and its line in MODULES."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from llada_exp.evals.harness import Harness
from llada_exp.help import help_line
from llada_exp.runs.keys import defaults, help_lines

MODULES = [
    "llada_exp.evals.builtin.harness",
    "llada_exp.evals.lm.harness",
    "llada_exp.evals.nemo.harness",  # stays last: it takes any name
]
"""Each has a HARNESS. Of those that recognise a benchmark the first takes it; a new line goes
before the last."""


def harnesses() -> dict[str, Harness]:
    """name -> harness, in the order of MODULES."""
    loaded: list[Harness] = [import_module(module).HARNESS for module in MODULES]
    return {harness.name: harness for harness in loaded}


def recognise(benchmarks: Iterable[str]) -> str:
    """The harness that all of these are of. Raises ValueError where they are of several, or of none."""
    names = list(benchmarks)
    owners = {name: _owner(name) for name in names}
    several = sorted(set(owners.values()))
    if len(several) > 1:
        raise ValueError(
            f"benchmark is {', '.join(names)}; these are of several harnesses ({', '.join(several)})"
        )
    return several[0]


def _owner(benchmark: str) -> str:
    for name, harness in harnesses().items():
        if harness.recognises(benchmark):
            return name
    raise ValueError(f"benchmark is {benchmark!r}; no harness knows it: {', '.join(harnesses())}")


def composed_defaults() -> dict[str, Any]:
    """What Hydra composes as the harnesses' part of the configuration."""
    return {name: defaults(harness.keys) for name, harness in harnesses().items()}


def help_benchmarks() -> str:
    """The lines of `--help` on which harness knows which benchmark."""
    return "\n".join(
        line
        for name, harness in harnesses().items()
        for line in help_line(f"{name}:", harness.benchmarks, indent=17, width=len(name) + 2)
    )


def help_keys() -> str:
    """The lines of `--help` on the harnesses' own keys."""
    return "\n".join(
        line for name, harness in harnesses().items() for line in help_lines(harness.keys, f"{name}.")
    )
