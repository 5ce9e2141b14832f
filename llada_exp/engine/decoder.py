"""One step of many requests: passes -> model -> candidates -> commit rules -> commits.

Keeps what belongs to rows between steps (K/V slots, rule state) and nothing else: no queue, no
finish. A step that raises may be run again; it has changed nothing that a re-run does not rewrite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llada_exp.engine.attention import key_bucket, packed_attention
from llada_exp.engine.batch import Batch, Work, build
from llada_exp.engine.request import Request
from llada_exp.engine.slots import KVSlots
from llada_exp.models.base import Model
from llada_exp.rules import RULES, Candidates
from llada_exp.rules.candidates import choose
from llada_exp.rules.credit import earn


@dataclass(frozen=True)
class Commit:
    """One request's commits of a step: answer positions ascending, ids int64, confidences."""

    positions: np.ndarray
    token_ids: np.ndarray
    confidences: np.ndarray


@dataclass(frozen=True)
class StepResult:
    """commits, one per request, and what was computed for them.

    num_positions: packed positions, padding included; num_tokens: without it.
    num_masked:    positions whose logits were wanted.
    num_pairs:     (query, key) pairs of one attention layer.
    """

    commits: list[Commit]
    num_positions: int
    num_tokens: int
    num_masked: int
    num_pairs: int


class Decoder:
    """Runs steps of a model for at most `num_rows` rows of at most `max_length` positions.

    exact: a row's bits do not depend on its company (see engine/attention.py).
    """

    def __init__(self, model: Model, num_rows: int, max_length: int, exact: bool = True) -> None:
        self.model = model
        self.exact = exact
        self.slots = KVSlots(model, num_rows, key_bucket(max_length) if exact else max_length)
        self._credit: dict[str, Tensor] = {}

    @torch.inference_mode()
    def run(self, requests: Sequence[Request]) -> StepResult:
        """One pass of every request. Changes no request."""
        work = self._work(requests)
        order = sorted(range(len(work)), key=lambda i: _place(work[i]))
        batch = build([work[i] for i in order], self.model.special, self.model.device)
        logits, credit = self._with_credit(batch, self._logits(batch))
        candidates = self._candidates(batch, logits)
        taken = _to_host(batch, candidates, self._select(batch, candidates))
        commits = [commit for _, commit in sorted(zip(order, taken, strict=True), key=lambda pair: pair[0])]
        self._credit.update(credit)
        pairs = sum(s.num_pairs for s in batch.segments)
        return StepResult(commits, batch.num_positions, batch.num_tokens, batch.num_masked, pairs)

    @torch.inference_mode()
    def forget(self, request: Request) -> None:
        """Free what is kept for a request."""
        self._credit.pop(request.request_id, None)
        for name in _names(request):
            self.slots.release(name)

    def _work(self, requests: Sequence[Request]) -> list[Work]:
        """Every request's pass and slots; all slots are taken before any is looked up, for taking one
        may move others."""
        passes = [(r, r.next_pass) for r in requests]
        for request, own in passes:
            if own.keep:
                for name in _names(request):
                    self.slots.take(name, key_bucket(request.length) if self.exact else 0)
        return [
            Work(r, own, tuple(self.slots.use(name, r.length) for name in _names(r)) if own.keep else ())
            for r, own in passes
        ]

    def _logits(self, batch: Batch) -> Tensor:
        """float32 [m padded, V] at the masked positions of the current blocks, and nowhere else."""
        kept = self.slots.tensors if any(s.slot is not None for s in batch.segments) else None
        attend = packed_attention(batch.segments, kept, self.exact, self.model.device, self.model.dtype)
        logits = self.model.head(self.model.hidden(batch.ids, batch.positions, attend, batch.wanted))
        if (guidance := batch.guidance) is None:
            return logits
        own, blind = logits[guidance.rows], logits[guidance.blind]
        own[guidance.guided] = blind + (guidance.scale.unsqueeze(1) + 1) * (own[guidance.guided] - blind)
        return own

    def _with_credit(self, batch: Batch, logits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Fuse the credit of `rule = credit` rows into their logits; the new state, not yet kept."""
        fresh: dict[str, Tensor] = {}
        place = 0
        for request in batch.requests:
            rows = slice(place, place := place + len(request.open_positions))
            if request.params.rule == "credit":
                old = self._credit.get(request.request_id) if request.block_step else None
                columns = batch.place[1, rows]
                fused, state = earn(logits[rows], columns, old, request.block_end - request.block_start)
                logits[rows] = fused
                fresh[request.request_id] = state
        return logits, fresh

    def _candidates(self, batch: Batch, logits: Tensor) -> Candidates:
        tokens, odds = choose(logits, self.model.special, batch.sampling)
        tokens, odds = tokens[: batch.num_masked], odds[: batch.num_masked]
        if batch.rank_uniform is not None:
            u = batch.rank_uniform
            odds = torch.where(u.isnan(), odds, (1 - u) / u)
        last = [r.params.eos_confidence == "last" for r in batch.requests]
        if any(last):
            held = torch.tensor(last, device=tokens.device)[batch.place[0]]
            odds = odds.masked_fill(held & _is_any(tokens, self.model.special.ends), torch.inf)
        shape = (len(batch.requests), max(r.block_end - r.block_start for r in batch.requests))
        at = (batch.place[0], batch.place[1])
        return Candidates(
            token_ids=tokens.new_zeros(shape).index_put(at, tokens),
            confidence=odds.new_zeros(shape).index_put(at, 1 / (1 + odds)),
            odds=odds.new_full(shape, torch.inf).index_put(at, odds),
            masked=torch.zeros(shape, dtype=torch.bool, device=tokens.device).index_put(
                at, torch.ones_like(tokens, dtype=torch.bool)
            ),
        )

    def _select(self, batch: Batch, candidates: Candidates) -> Tensor:
        """bool [n, B]: each request's own rule, each rule run once over its requests."""
        names = [row.params.rule for row in batch.rows]
        if len(set(names)) == 1:
            return self._hold_ends(batch, candidates, RULES[names[0]](candidates, batch.rows))
        commit = torch.zeros_like(candidates.masked)
        for name in dict.fromkeys(names):
            rows = [i for i, other in enumerate(names) if other == name]
            index = torch.tensor(rows, device=commit.device)
            commit[index] = RULES[name](candidates.rows(index), [batch.rows[i] for i in rows])
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


def _names(request: Request) -> list[tuple[str, int]]:
    """What the request's rows are called in the slots."""
    return [(request.request_id, row) for row in range(request.params.num_rows)]


def _place(work: Work) -> tuple[bool, int, int]:
    """Where in the packed tokens: BLOCK passes of one width side by side, in the order of their slots,
    so that attention over them needs no gathering; then all others."""
    reads_slots = bool(work.slots) and not work.row_pass.whole
    return not reads_slots, work.row_pass.num_positions, work.slots[0] if work.slots else 0


def _is_any(ids: Tensor, ends: Sequence[int]) -> Tensor:
    return torch.isin(ids, torch.tensor(list(ends), device=ids.device))


def _to_host(batch: Batch, candidates: Candidates, commit: Tensor) -> list[Commit]:
    """One transfer, then arrays per request."""
    small = torch.stack(
        [commit.double(), candidates.token_ids.double(), candidates.confidence.double()]
    )  # ids below 2**53 are exact in float64
    flags, tokens, confidence = small.cpu().numpy()
    commits = []
    for i, request in enumerate(batch.requests):
        places = np.flatnonzero(flags[i])
        commits.append(
            Commit(request.block_start + places, tokens[i, places].astype(np.int64), confidence[i, places])
        )
    return commits
