"""What a rule is shown, from numbers written by hand."""

import torch

from llada_exp.rules import RULES, Candidates, RowState
from llada_exp.types import DecodingParams


def candidates(confidences, masked=None, evidence=None):
    """Rows of confidences; all masked where nothing is said."""
    confidence = torch.tensor(confidences)
    masked = torch.ones_like(confidence).bool() if masked is None else torch.tensor(masked)
    evidence = None if evidence is None else torch.tensor(evidence)
    return Candidates(torch.zeros_like(confidence).long(), confidence, 1 / confidence - 1, masked, evidence)


def row_state(params, block_masks=None, block_step=0):
    num_blocks = -(-params.max_tokens // params.block_length)
    return RowState(params, block_masks or params.block_length, block_step, num_blocks, params.block_length)


def commit(rule, confidences, masked=None, evidence=None, **fields):
    """Which positions the rule writes, rows of one block, as lists."""
    width = len(confidences[0])
    params = DecodingParams(rule=rule, max_tokens=width, block_length=width, **fields)
    rows = [row_state(params)] * len(confidences)
    return RULES[rule].select(candidates(confidences, masked, evidence), rows).write.tolist()


def observe(rule, logits, columns, state=None, block_length=4, **fields):
    """One row's pass; logits as lists."""
    params = DecodingParams(rule=rule, max_tokens=block_length, block_length=block_length, **fields)
    return RULES[rule].observe(torch.tensor(logits), torch.tensor(columns), state, row_state(params))
