"""Commit rules: which candidates of a pass become tokens. One file each, found by its name in
`types.RULES`."""

from importlib import import_module

from llada_exp import types
from llada_exp.rules.base import Candidates, Commits, Observation, RowState, Rule

RULES: dict[str, Rule] = {name: import_module(f"{__name__}.{name}").RULE for name in types.RULES}

__all__ = ["RULES", "Candidates", "Commits", "Observation", "RowState", "Rule"]
