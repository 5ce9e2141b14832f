"""Which positions of a block a rule commits, each definition written out plainly, on one pass's scores.

Shares no code with the rules of the engine. Where the definitions are from: docs/decoding.md.

Letters: B block length, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from llada_exp.types import DecodingParams

RULES = (
    "fixed", "threshold", "factor", "frechet", "credit", "hierarchical", "entropy", "klass", "linear",
    "dynamic", "sequential", "edit",
)  # fmt: skip
"""Rules that are defined here, with their parameters. None but `edit` changes a token."""
LEAST_LOG_ODDS = -math.log(1e38)
"""Of a token that leads nothing: small, and above a threshold of 0."""


@dataclass(frozen=True)
class Proposal:
    """What one pass says of the current block.

    scores: float64 [B, V], the logits that candidates are taken from (with credit, where the rule has it);
            NaN at positions that it may not change. emittable: bool [V].
    start:  answer position of the block's first (below 0 where the block holds the prompt's end).
    moves:  by open position, KL divergences from each of the block's passes to the next (`klass`).
    opens:  the pass is for the block's first position alone. seeds: it is no denoising pass: the context's
            last row says that position's token.
    steps_per_block: of the request, or what its `steps` come to; None: it has neither.
    length: B of the request; the last block may be shorter.
    standing: by position of the block, tokens that may be overwritten (`edit`).
    """

    scores: Tensor
    emittable: Tensor
    start: int
    first_masks: int
    step: int
    params: DecodingParams
    moves: Mapping[int, Sequence[float]] = field(default_factory=dict)
    opens: bool = False
    seeds: bool = False
    steps_per_block: int | None = None
    length: int = 0
    standing: Mapping[int, int] = field(default_factory=dict)

    @property
    def places(self) -> list[int]:
        """Positions of the block, from 0, where a token may be written."""
        return torch.nonzero(~self.scores[:, 0].isnan()).flatten().tolist()

    @property
    def open(self) -> list[int]:
        """Those that are undecided."""
        return [i for i in self.places if i not in self.standing]

    def best(self, position: int) -> int:
        """The candidate of a position of the block: its most probable token that may be emitted."""
        return int(self.scores[position].masked_fill(~self.emittable, -math.inf).argmax())

    def log_odds(self, position: int, token: int) -> float:
        """log c / (1 - c) of the confidence c in a token: its probability under the softmax over the whole
        vocabulary, that less the likeliest other one's, or exp(-H) of the position's entropy H."""
        if self.params.remasking == "entropy":
            return -math.log(math.expm1(self.entropy(position)))
        if self.params.remasking == "topk_margin":
            behind = self.scores[position] - self.scores[position, token]
            behind[token] = -math.inf
            if behind.max() >= 0:
                return LEAST_LOG_ODDS
            next_best = math.exp(float(behind.max()))
            return math.log1p(-next_best) - math.log(float(behind.exp().sum()) + next_best)
        others = self.scores[position].clone()
        others[token] = -math.inf
        return float(self.scores[position, token] - others.logsumexp(0))

    def entropy(self, position: int) -> float:
        """In nats: log Z - E[l], logits counted from the largest one, which so loses no digits near 0."""
        behind, best = self.scores[position] - self.scores[position].max(), self.scores[position].argmax()
        behind = behind[torch.arange(len(behind)) != best]
        log_z = behind.exp().sum().log1p()
        return float(log_z - ((behind - log_z).exp() * behind).sum())

    def commits(
        self, nudges: Mapping[int, float] | None = None, candidates: Mapping[int, int] | None = None
    ) -> dict[int, int]:
        """Answer position -> token that the rule commits. nudges: by position of the block, how much surer
        than it was (in log-odds, in nats), to ask what would have been; candidates: other tokens to be asked
        for there."""
        tokens = {i: self.best(i) for i in self.places} | dict(candidates or {})
        nudges = dict.fromkeys(tokens, 0.0) | dict(nudges or {})
        odds = {i: self.log_odds(i, token) + nudges[i] for i, token in tokens.items()}
        written = {i for i in self.standing if tokens[i] != self.standing[i]}
        written = {i for i in written if probability(odds.pop(i)) > self.params.editing_threshold}
        masks = {i: odds[i] for i in self.open}
        if masks:
            written |= set(masks) if self.opens else self._rule(masks, nudges)
        return {self.start + i: tokens[i] for i in sorted(written)}

    def _rule(self, odds: dict[int, float], nudges: Mapping[int, float]) -> set[int]:
        params = self.params
        if params.rule == "entropy":
            return self._entropy_bounded(nudges)
        order = sorted(odds, key=lambda i: (-odds[i], i))  # ties go to the lower position
        p = {i: probability(odds[i]) for i in order}
        sure = [p[i] for i in order]
        if params.rule == "fixed":
            return set(order[: max(1, self._quota())])
        if params.rule == "linear":
            return set(order[: self._linear_quota()])
        if params.rule == "sequential":
            return set(sorted(odds)[: self._spread_quota()])
        if params.rule in ("dynamic", "edit"):
            sure_enough = {i for i in order if p[i] > params.threshold}
            quota = (params.rule == "edit" and params.tokens_per_step) or self._spread_quota()
            return sure_enough if len(sure_enough) >= quota else set(order[:quota])
        if params.rule in ("threshold", "credit"):
            return {order[0]} | {i for i in order if p[i] >= params.threshold}
        if params.rule == "factor":
            count = 1
            while count < len(sure) and sure[count] >= 1 - params.factor / (count + 2):
                count += 1
            return set(order[:count])
        if params.rule == "frechet":
            counts = range(1, len(sure) + 1)
            enough = [n for n in counts if sum(sure[:n]) - (n - 1) - (1 - sure[n - 1]) >= params.delta]
            return set(order[: max([1, *enough])])
        if params.rule == "klass":
            return {i for i in order if p[i] > params.threshold and self._settled(i, nudges[i])} or {order[0]}
        assert params.rule == "hierarchical", params.rule
        best_of_runs = {min(run, key=order.index) for run in _runs(sorted(odds))}
        low = {i for i in best_of_runs if p[i] >= params.low_threshold}
        return {order[0]} | low | {i for i in order if p[i] >= params.threshold}

    def _entropy_bounded(self, nudges: Mapping[int, float]) -> set[int]:
        """EB-Sampler, arXiv 2505.24857: sum of entropies less the largest of them <= gamma."""
        entropy = {i: self.entropy(i) for i in self.open}
        order = sorted(entropy, key=lambda i: (entropy[i] - nudges[i], i))
        count = 1
        while count < len(order):
            first = [entropy[i] for i in order[: count + 1]]
            if sum(first) - max(first) - count * nudges[order[count]] > self.params.gamma:
                break
            count += 1
        return set(order[:count])

    def _settled(self, position: int, nudge: float) -> bool:
        """KLASS, arXiv 2511.05664. Logits moved by a nudge move a divergence d by sqrt(8 d) of it at most, to
        first order."""
        last = self.moves.get(position, ())[-self.params.history :]
        small = [d - nudge * math.sqrt(8 * d) < self.params.kl_threshold for d in last]
        return len(small) == self.params.history and all(small)

    def _linear_quota(self) -> int:
        """Dream, arXiv 2508.15487: int(m (1 - t_{k+1} / t_k)) of m masks in pass k, t from 1 to 0.001."""
        steps = self.steps_per_block or self.first_masks
        if self.step + 1 >= steps:
            return len(self.open)
        times = torch.linspace(1, 1e-3, steps + 1)
        return int(len(self.open) * (1 - times[self.step + 1] / times[self.step]))

    def _spread_quota(self) -> int:
        """q_t of LLaDA2 and SDAR: the block's length over its steps, whatever masks it holds."""
        per_block = self.steps_per_block
        if per_block is None:
            return 1
        return max(1, self.length // per_block + (self.step < self.length % per_block))

    def _quota(self) -> int:
        params = self.params
        per_block = self.steps_per_block
        if per_block is None:
            return params.tokens_per_step or 1
        size = len(self.scores)
        return size // per_block + (self.step < size % per_block)


def probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds)) if log_odds > 0 else math.exp(log_odds) / (1 + math.exp(log_odds))


def _runs(positions: Sequence[int]) -> list[list[int]]:
    """Neighbours together."""
    runs: list[list[int]] = []
    for i in positions:
        if runs and runs[-1][-1] == i - 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs
