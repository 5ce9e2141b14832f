"""`entropy`: as many tokens as their entropies allow together (EB-Sampler, arXiv 2505.24857).

Down the masked positions by the entropy of their distributions, ascending, the first k commit: the most for
which the sum of their entropies less the largest of them is at most `gamma`; at least one. That difference
bounds how much the tokens of one step can depend on each other. Entropies are in nats, of the clean, full
softmax. Under another `remasking` the order is its own and the bound the same. (The paper counts over the
whole sequence; here, as everywhere, only the current block commits. A public implementation takes one k for
all rows of its batch; ours is each row's.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from llada_exp.rules.base import Candidates, Commits, Observation, RowState, Rule


def entropies(logits: Tensor) -> Tensor:
    """float32 [k, V] -> [k], in nats. Near 0, where log_softmax would round the best token's probability to
    1, it keeps its digits: with d = l - l_max and s = the sum of exp(d) over all but the best token,
    H = log(1 + s) - sum(exp(d) d) / (1 + s), whose terms are all of one sign."""
    best, token = logits.max(dim=-1, keepdim=True)
    behind = (logits - best).clamp_(min=-200.0)  # exp of it is 0, and so is the product
    weight = behind.exp().scatter_(1, token, 0.0)
    rest = weight.sum(dim=-1)
    return rest.log1p() - weight.mul_(behind).sum(dim=-1) / (1 + rest)


def observe(logits: Tensor, columns: Tensor, state: Any, row: RowState) -> Observation:
    """The evidence is the entropy."""
    return Observation(logits, entropies(logits))


def select(candidates: Candidates, rows: Sequence[RowState]) -> Commits:
    entropy = candidates.evidence
    assert entropy is not None
    is_other = torch.tensor(
        [[row.params.remasking != "low_confidence"] for row in rows], device=entropy.device
    )
    ranks = candidates.ranks(torch.where(is_other, candidates.odds, entropy))
    ordered = entropy.masked_fill(~candidates.masked, torch.inf).double()
    ordered = torch.empty_like(ordered).scatter_(1, ranks, ordered)
    excess = ordered.cumsum(dim=1) - ordered.cummax(dim=1).values
    gamma = torch.tensor([[row.params.gamma] for row in rows], dtype=ordered.dtype, device=ordered.device)
    count = (excess <= gamma).sum(dim=1, keepdim=True)  # inf - inf is no number, and at most nothing
    return Commits(candidates.masked & (ranks < count))


RULE = Rule(select, observe)
