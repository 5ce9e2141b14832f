"""Log-probabilities of the tokens that a pass commits, for the requests that ask for them.

Of the distribution that the pass's candidates were taken from: the float32 softmax of the logits over all of
the vocabulary, after guidance and after what the rule's `observe` made of them, before temperature, top_p,
top_k and bans. So exp(logprob) is the confidence by which a rule judged the token.

A request's numbers are made of its own logits, in a shape that it alone decides: they hang on no company.

Letters: k positions whose logits a pass gave a request, c those it commits, n alternatives, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from llada_exp.engine.batch import Batch
from llada_exp.engine.commits import Commit, CommitScores
from llada_exp.engine.errors import NotFiniteError
from llada_exp.engine.request import Request
from llada_exp.models.base import SpecialIds


@dataclass(frozen=True)
class Distributions:
    """Logits float32 [k, V] of those requests, by place in the batch, before `choose` overwrites them."""

    logits: dict[int, Tensor]

    @classmethod
    def of(cls, batch: Batch, logits: Tensor) -> Distributions:
        """logits: float32 [m padded, V]. Copies nothing where nobody asks."""
        copies: dict[int, Tensor] = {}
        stop = 0
        if all(request.params.logprobs is None for request in batch.requests):
            return cls(copies)
        for place, (request, plan) in enumerate(zip(batch.requests, batch.plans, strict=True)):
            start, stop = stop, stop + len(plan.logit_positions)
            if request.params.logprobs is not None:
                copies[place] = logits[start:stop].clone()
        return cls(copies)

    def score(
        self, requests: Sequence[Request], commits: Sequence[Commit | NotFiniteError], special: SpecialIds
    ) -> list[Commit | NotFiniteError]:
        """The commits, with scores where they are asked for, and what is none of them as it is. Both in the
        batch's order; one transfer."""
        pairs = [(i, c) for i in self.logits if isinstance(c := commits[i], Commit) and len(c.positions)]
        if not pairs:
            return list(commits)
        parts = [_scores(self.logits[i], requests[i], commit, special) for i, commit in pairs]
        flat = torch.cat([part.flatten() for part in parts]).cpu().numpy()
        scored, stop = list(commits), 0
        for (place, commit), part in zip(pairs, parts, strict=True):
            start, stop = stop, stop + part.numel()
            scored[place] = replace(commit, scores=_unpacked(flat[start:stop].reshape(part.shape)))
        return scored


def _scores(logits: Tensor, request: Request, commit: Commit, special: SpecialIds) -> Tensor:
    """float64 [c, 1 + 2n]: the token's log-probability, then ids of the likeliest tokens, then theirs."""
    rows = np.searchsorted(request.plan.logit_positions, commit.positions)
    place = torch.from_numpy(np.stack([rows, commit.token_ids])).to(logits.device)
    every = logits[place[0]].log_softmax(dim=-1)
    chosen = every.gather(1, place[1].unsqueeze(1))
    assert request.params.logprobs is not None
    values, ids = _choosable(every, request, special).topk(min(request.params.logprobs, every.shape[1]))
    return torch.cat([chosen.double(), ids.double(), values.double()], dim=1)  # ids below 2**53 are exact


def _choosable(every: Tensor, request: Request, special: SpecialIds) -> Tensor:
    """-inf for tokens that the request can never get; overwrites."""
    if request.params.ban_ids:
        every[:, special.num_emittable :] = -torch.inf
        every[:, special.mask] = -torch.inf
    if request.params.eos_confidence == "forbid":
        every[:, list(special.ends)] = -torch.inf
    return every


def _unpacked(rows: np.ndarray) -> CommitScores:
    n = (rows.shape[1] - 1) // 2
    return CommitScores(rows[:, 0], rows[:, 1 : 1 + n].astype(np.int64), rows[:, 1 + n :])
