"""One step of many requests: batch -> model -> candidates -> commit rules -> commits.

Knows no queue and no finish: it changes nothing but what it returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llada_exp.engine.attention import packed_attention
from llada_exp.engine.batch import Batch, build
from llada_exp.engine.request import Request
from llada_exp.models.base import Model
from llada_exp.rules import RULES, Candidates
from llada_exp.rules.candidates import choose


@dataclass(frozen=True)
class StepResult:
    """Commits of one step, per request: answer positions ascending, ids, confidences; and what
    was computed for it."""

    commits: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
    num_positions: int
    num_tokens: int
    num_masked: int


class Decoder:
    """Runs steps of a model. Stateless between steps but for the model."""

    def __init__(self, model: Model) -> None:
        self.model = model

    @torch.inference_mode()
    def run(self, requests: Sequence[Request]) -> StepResult:
        batch = build(requests, self.model.special, self.model.device)
        logits = self._logits(batch)
        candidates = self._candidates(batch, logits)
        commit = self._select(batch, candidates)
        return StepResult(
            commits=_to_host(batch, candidates, commit),
            num_positions=batch.num_positions,
            num_tokens=batch.num_tokens,
            num_masked=batch.num_masked,
        )

    def _logits(self, batch: Batch) -> Tensor:
        """float32 [m padded, V] at the masked positions of the current blocks, and nowhere else."""
        attend = packed_attention(batch.segments)
        hidden = self.model.hidden(batch.ids, batch.positions, attend)
        logits = self.model.head(hidden[batch.head])
        if batch.uncond_head is not None:
            count = len(batch.guided)
            uncond = self.model.head(hidden[batch.uncond_head])[:count]
            cond = logits[batch.guided]
            logits[batch.guided] = uncond + (batch.scale.unsqueeze(1) + 1) * (cond - uncond)
        return logits

    def _candidates(self, batch: Batch, logits: Tensor) -> Candidates:
        tokens, odds = choose(logits, self.model.special, batch.sampling)
        tokens, odds = tokens[: batch.num_masked], odds[: batch.num_masked]
        if batch.rank_uniform is not None:
            u = batch.rank_uniform
            odds = torch.where(u.isnan(), odds, (1 - u) / u)
        is_end = _is_any(tokens, self.model.special.ends)
        last = torch.tensor([r.params.eos_confidence == "last" for r in batch.requests])
        if bool(last.any()):
            held = is_end & last.to(tokens.device)[batch.place[0]]
            odds = odds.masked_fill(held, torch.inf)
        shape = (len(batch.requests), max(r.params.block_length for r in batch.requests))
        at = (batch.place[0], batch.place[1])
        dense = Candidates(
            token_ids=tokens.new_zeros(shape).index_put(at, tokens),
            confidence=odds.new_zeros(shape).index_put(at, 1 / (1 + odds)),
            odds=odds.new_full(shape, torch.inf).index_put(at, odds),
            masked=torch.zeros(shape, dtype=torch.bool, device=tokens.device),
        )
        dense.masked[at] = True
        return dense

    def _select(self, batch: Batch, candidates: Candidates) -> Tensor:
        """bool [n, B]: each request's own rule, each rule run once over its requests."""
        commit = torch.zeros_like(candidates.masked)
        names = [row.params.rule for row in batch.rows]
        for name in dict.fromkeys(names):
            rows = [i for i, other in enumerate(names) if other == name]
            index = torch.tensor(rows, device=commit.device)
            part = Candidates(
                candidates.token_ids[index],
                candidates.confidence[index],
                candidates.odds[index],
                candidates.masked[index],
            )
            commit[index] = RULES[name](part, [batch.rows[i] for i in rows])
        return self._hold_ends(batch, candidates, commit)

    def _hold_ends(self, batch: Batch, candidates: Candidates, commit: Tensor) -> Tensor:
        """`eos_confidence = last`: ends commit only where no other candidate remains."""
        last = [row.params.eos_confidence == "last" for row in batch.rows]
        if not any(last):
            return commit
        is_end = _is_any(candidates.token_ids, self.model.special.ends) & candidates.masked
        others = (candidates.masked & ~is_end).any(dim=1, keepdim=True)
        held = torch.tensor(last, device=commit.device).unsqueeze(1)
        return commit & ~(is_end & others & held)


def _is_any(ids: Tensor, ends: Sequence[int]) -> Tensor:
    return torch.isin(ids, torch.tensor(list(ends), device=ids.device))


def _to_host(
    batch: Batch, candidates: Candidates, commit: Tensor
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """One transfer, then arrays per request."""
    small = torch.stack(
        [commit.double(), candidates.token_ids.double(), candidates.confidence.double()]
    )  # ids below 2**53 are exact in float64
    flags, tokens, confidence = small.cpu().numpy()
    result = []
    for i, request in enumerate(batch.requests):
        places = np.flatnonzero(flags[i])
        result.append(
            (request.block_start + places, tokens[i, places].astype(np.int64), confidence[i, places])
        )
    return result
