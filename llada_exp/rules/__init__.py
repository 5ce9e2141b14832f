"""Commit rules: which candidates of a step become tokens. One file each, named in `RULES`."""

from llada_exp.rules.base import Candidates, RowState, Rule
from llada_exp.rules.fixed import fixed
from llada_exp.rules.threshold import threshold

RULES: dict[str, Rule] = {"fixed": fixed, "threshold": threshold}

__all__ = ["RULES", "Candidates", "RowState", "Rule"]
