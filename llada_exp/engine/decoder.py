"""One step of many requests: passes -> model -> candidates -> commit rules -> commits.

Keeps what belongs to rows between steps (K/V, rule state) and nothing else: no queue, no
finish. A step that raises may be run again; it has changed nothing that a re-run does not rewrite.

Letters are those of engine/batch.py; V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from llada_exp.caches import CACHES
from llada_exp.engine.attention import key_bucket, packed_attention, row_positions
from llada_exp.engine.batch import Batch, Work, build
from llada_exp.engine.commits import NO_COMMIT, Commit
from llada_exp.engine.errors import NotFiniteError
from llada_exp.engine.forward import Forward
from llada_exp.engine.kv import KVMemory
from llada_exp.engine.logprobs import Distributions
from llada_exp.engine.prefixes import NO_PREFIX
from llada_exp.engine.readback import flags_of, to_host
from llada_exp.engine.request import Request
from llada_exp.engine.sharing import prefix_of, row_names
from llada_exp.models.base import Model
from llada_exp.rules import RULES, Candidates
from llada_exp.rules.candidates import choose
from llada_exp.types import DecodingParams


@dataclass
class Observations:
    """What the rules of a step observed, and what stands at decided positions.

    evidence: float32 [m], None where no rule gave any. standing: float32 [m], the probability of the tokens
    that stand there; None where no rule revises. states: by request, for its next pass.
    """

    evidence: Tensor | None = None
    standing: Tensor | None = None
    states: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StepResult:
    """commits, one per request, or why there is none, and what was computed for them.

    counts: num_positions, packed ones with padding, num_tokens_forwarded, without it, num_logit_rows,
            num_attention_pairs, (query, key) of one layer; num_steps, num_nfe, num_store_passes.
    """

    commits: list[Commit | NotFiniteError]
    counts: Mapping[str, int]


class Decoder:
    """Runs steps of a model for rows whose K/V take at most `kv_positions` together.

    forward: of the device path; None: the exact one, on which a row's bits do not depend on its company
             (engine/attention.py).
    shares: whether rows share K/V of leading blocks.
    """

    def __init__(
        self, model: Model, kv_positions: int, forward: Forward | None = None, shares: bool = True
    ) -> None:
        self.model = model
        self.forward, self.shares = forward, shares
        self.kv = KVMemory(model, kv_positions)
        self._states: dict[str, Any] = {}

    @property
    def exact(self) -> bool:
        return self.forward is None

    @property
    def attention(self) -> str:
        """Which kernel attends: exact, or a device's."""
        return "exact" if self.forward is None else self.forward.kernel.name

    @property
    def capture(self) -> str:
        """How steps of few tokens run: none, as they are issued."""
        return "none" if self.forward is None else self.forward.in_effect

    @torch.inference_mode()
    def prepare(self, max_length: int) -> None:
        """Capture what can be captured before the first request. max_length: of a row."""
        if self.forward is not None:
            self.forward.prepare(self.kv, max_length)

    @torch.inference_mode()
    def run(self, requests: Sequence[Request]) -> StepResult:
        """One pass of every request. Changes no request."""
        work = self._work(requests)
        order = sorted(range(len(work)), key=lambda i: _place(work[i]))
        batch = build([work[i] for i in order], self.model.special, self.model.device, self.exact)
        logits = self._logits(batch)
        commits = self._decide(batch, logits) if batch.requests else []
        num_store_passes = sum(item.plan.stores for item in work)
        counts = {
            "num_steps": 1,
            "num_nfe": len(requests) - num_store_passes,
            "num_store_passes": num_store_passes,
            "num_positions": len(batch.ids),
            "num_tokens_forwarded": batch.num_tokens,
            "num_logit_rows": batch.num_logit_rows,
            "num_attention_pairs": sum(s.num_pairs for s in batch.segments),
        }
        deciding = [i for i in order if work[i].plan.gives_logits]
        by_request = dict(zip(deciding, commits, strict=True))
        return StepResult([by_request.get(i, NO_COMMIT) for i in range(len(requests))], counts)

    def _decide(self, batch: Batch, logits: Tensor) -> list[Commit | NotFiniteError]:
        """What becomes of the logits, one of each of the batch's requests."""
        observations = self._observe(batch, logits)
        distributions = Distributions.of(batch, logits)
        candidates = self._candidates(batch, logits, observations)
        commits = to_host(batch, candidates, self._select(batch, candidates), self.model.dtype)
        scored = distributions.score(batch.requests, commits, self.model.special)
        self._states.update(observations.states)  # last: what raises before is run again
        return scored

    def reserve(self, request: Request) -> bool:
        """Take K/V memory for the request's rows, to its end; False where too little is free."""
        if self.holds_memory(request.params):
            length = row_positions(request.length, self.exact)
            keeps = CACHES[request.params.cache].keeps  # else it computes all of its row in every pass
            prefix = prefix_of(request) if self.shares and keeps else NO_PREFIX
            return self.kv.reserve(dict.fromkeys(row_names(request), length), prefix)
        return True

    def holds_memory(self, params: DecodingParams) -> bool:
        """Whether such a request's rows have K/V memory. The device path reads all keys from there, also
        those that no later pass reads."""
        return CACHES[params.cache].keeps or not self.exact

    def longest_row(self, num_rows: int) -> int:
        """Positions of the longest rows of which the whole K/V memory holds so many."""
        unit = row_positions(1, self.exact)
        return self.kv.num_positions // num_rows // unit * unit

    def forget(self, request: Request) -> None:
        """Free what is kept for a request."""
        self._states.pop(request.request_id, None)
        for name in row_names(request):
            self.kv.release(name)

    def _work(self, requests: Sequence[Request]) -> list[Work]:
        """Every request's pass and slots."""
        plans = [(r, r.plan) for r in requests]
        return [
            Work(r, p, tuple(map(self.kv.slot, row_names(r))) if p.row_pass.keep or not self.exact else ())
            for r, p in plans
        ]

    def _logits(self, batch: Batch) -> Tensor:
        """float32 [m padded, V] at the open positions of the current blocks, and nowhere else."""
        logits = (self._exact_logits if self.forward is None else self._device_logits)(batch)
        if (guidance := batch.guidance) is None:
            return logits
        blind, logits = logits[guidance.blind], logits[guidance.rows]
        guided = logits[guidance.guided]
        logits[guidance.guided] = blind + (guidance.scale.unsqueeze(1) + 1) * (guided - blind)
        return logits

    def _exact_logits(self, batch: Batch) -> Tensor:
        device = self.model.device
        cache = self.kv.tensors if any(s.slot is not None for s in batch.segments) else None
        attend = packed_attention(batch.segments, cache, device, self.model.dtype)
        ids, positions, rows = (
            torch.from_numpy(x).to(device) for x in (batch.ids, batch.positions, batch.logit_rows)
        )
        return self.model.head(self.model.hidden(ids, positions, attend, rows))

    def _device_logits(self, batch: Batch) -> Tensor:
        assert self.forward is not None
        if self.forward.kernel.reads_pool:
            self.kv.wipe()
        return self.forward(batch.ids, batch.positions, batch.logit_rows, batch.segments, self.kv.tensors)

    def _observe(self, batch: Batch, logits: Tensor) -> Observations:
        """Show each row's logits to its rule, where that looks at them; what it returns takes their place.

        Row by row: so a row's bits depend on its own shape alone."""
        step, stop = Observations(), 0
        for request, plan, row in zip(batch.requests, batch.plans, batch.rows, strict=True):
            start, stop = stop, stop + len(plan.logit_positions)
            rule = RULES[request.params.rule]
            if rule.observe is None and not rule.revises:
                continue
            shown = logits[start:stop]
            if rule.observe is not None and plan.seeds:  # the context's logits, of which it makes nothing
                step.evidence = (
                    logits.new_zeros(batch.num_logit_rows) if step.evidence is None else step.evidence
                )
            elif rule.observe is not None:
                state = self._states.get(request.request_id) if request.block_step else None
                observation = rule.observe(shown, batch.place[1, start:stop], state, row)
                step.states[request.request_id] = observation.state
                if observation.logits is not shown:
                    shown.copy_(observation.logits)
                if observation.evidence is not None:
                    if step.evidence is None:
                        step.evidence = logits.new_zeros(batch.num_logit_rows)
                    step.evidence[start:stop] = observation.evidence
            if rule.revises:
                assert batch.revision is not None
                if step.standing is None:
                    step.standing = logits.new_zeros(batch.num_logit_rows)
                standing = shown.gather(1, batch.revision.ids[start:stop].unsqueeze(1)).squeeze(1)
                step.standing[start:stop] = (standing - shown.logsumexp(dim=-1)).exp()
        return step

    def _candidates(self, batch: Batch, logits: Tensor, step: Observations) -> Candidates:
        tokens, odds = choose(logits, self.model.special, batch.sampling)
        tokens, odds = tokens[: batch.num_logit_rows], odds[: batch.num_logit_rows]
        if batch.rank_uniform is not None:
            u = batch.rank_uniform
            odds = torch.where(u.isnan() | odds.isnan(), odds, (1 - u) / u)
        last = [r.params.eos_confidence == "last" for r in batch.requests]
        if any(last):
            held = torch.tensor(last, device=tokens.device)[batch.place[0]]
            held &= _is_any(tokens, self.model.special.ends) & ~odds.isnan()
            odds = odds.masked_fill(held, torch.inf)
        shape = (len(batch.requests), max(row.block_length for row in batch.rows))
        at = batch.place[0] * shape[1] + batch.place[1]

        def plane(values: Tensor, empty: float = 0) -> Tensor:
            return values.new_full((shape[0] * shape[1],), empty).scatter_(0, at, values).view(shape)

        def maybe(values: Tensor | None) -> Tensor | None:
            return None if values is None else plane(values)

        revision = batch.revision
        return Candidates(
            token_ids=plane(tokens),
            confidence=plane(1 / (1 + odds)),
            odds=plane(odds, torch.inf),
            masked=plane(torch.ones_like(tokens, dtype=torch.bool) if revision is None else revision.masked),
            evidence=maybe(step.evidence),
            decided=maybe(None if revision is None else ~revision.masked),
            current=maybe(None if revision is None else revision.ids),
            current_confidence=maybe(step.standing),
        )

    def _select(self, batch: Batch, candidates: Candidates) -> Tensor:
        """float64 [n, B], the sum of WRITE, REMASK, STAY: each row's own rule, each rule run once over its
        rows."""
        names = [row.params.rule for row in batch.rows]
        if len(set(names)) == 1:
            commits = RULES[names[0]].select(candidates, batch.rows)
            return flags_of(commits, self._hold_ends(batch, candidates, commits.write))
        write = torch.zeros_like(candidates.masked)
        revision = None
        for name in dict.fromkeys(names):
            rows = [i for i, other in enumerate(names) if other == name]
            index = torch.tensor(rows, device=write.device)
            commits = RULES[name].select(candidates.rows(index), [batch.rows[i] for i in rows])
            write[index] = commits.write
            if RULES[name].revises:
                revision = torch.zeros_like(write, dtype=torch.float64) if revision is None else revision
                revision[index] = flags_of(commits, torch.zeros_like(commits.write))
        write = self._hold_ends(batch, candidates, write)
        return write.double() if revision is None else write.double() + revision

    def _hold_ends(self, batch: Batch, candidates: Candidates, commit: Tensor) -> Tensor:
        """`eos_confidence = last`: ends commit only where no other candidate remains."""
        last = [row.params.eos_confidence == "last" for row in batch.rows]
        if not any(last):
            return commit
        is_end = _is_any(candidates.token_ids, self.model.special.ends)
        others = (candidates.masked & ~is_end).any(dim=1, keepdim=True)
        held = torch.tensor(last, device=commit.device).unsqueeze(1)
        return commit & ~(is_end & others & held)


def _place(work: Work) -> tuple[bool, int, int, int]:
    """Where in the packed tokens: BLOCK passes of one width that read as many keys side by side, in the order
    of their slots, so that attention over them needs no gathering; then all others."""
    row_pass = work.plan.row_pass
    reads_slots = bool(work.slots) and not row_pass.whole
    start = work.slots[0].start if work.slots else 0
    return not reads_slots, row_pass.num_positions, key_bucket(row_pass.keys), start


def _is_any(ids: Tensor, ends: Sequence[int]) -> Tensor:
    return torch.isin(ids, torch.tensor(list(ends), device=ids.device))
