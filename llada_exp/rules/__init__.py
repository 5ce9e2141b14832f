"""Commit rules: which candidates of a step become tokens. One file each, named in `RULES`."""

from llada_exp.rules.base import Candidates, RowState, Rule
from llada_exp.rules.credit import credit_select
from llada_exp.rules.factor import factor
from llada_exp.rules.fixed import fixed
from llada_exp.rules.frechet import frechet
from llada_exp.rules.hierarchical import hierarchical
from llada_exp.rules.threshold import threshold

RULES: dict[str, Rule] = {
    "fixed": fixed,
    "threshold": threshold,
    "factor": factor,
    "frechet": frechet,
    "credit": credit_select,
    "hierarchical": hierarchical,
}

__all__ = ["RULES", "Candidates", "RowState", "Rule"]
