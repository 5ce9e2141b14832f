"""What the engine is held to: greedy decoding of one row in float32, each definition written out plainly.

Shares the network's layers with the engine and nothing else: no packing, no slots, no attention of its
own shapes, no candidates, cache policies or rules of its code. Without a cache every pass is the model's
plain forward of the whole row. With one, K/V stand in arrays as long as the row. Softmax in float64.
Slow: one row, one pass at a time. Where the definitions are from: docs/decoding.md.

Letters: P prompt, G canvas, B block length, T = P + G, V vocabulary, H heads, D head width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from llada_exp.types import DECLARATIONS, DecodingParams

RULES = ("fixed", "threshold", "factor", "frechet", "credit", "hierarchical", "entropy", "klass")
"""Rules that are defined here, with their parameters. None of them revises a token."""
CACHES = ("none", "prefix", "dual")
DEFINED = {
    "max_tokens", "block_length", "canvas", "rule", "cache", "refresh", "refresh_window", "refresh_interval",
    "suffix_window", "ignore_eos", "early_eos", "ban_ids", "trace", "top_p", "top_k", "seed",
}  # fmt: skip
"""Other fields that are; the last three belong to sampling, and mean nothing without it. Whatever else there
is stands at its default, or the request is not one for the oracle."""

DECAY, POWER, WEIGHT = 0.8, 0.2, 0.7  # of `credit`


@dataclass(frozen=True)
class Proposal:
    """What one pass says of the current block.

    scores: float64 [B, V], the logits that candidates are taken from (with credit, where the rule has it);
            NaN at decided positions. emittable: bool [V].
    start:  answer position of the block's first (below 0 where the block holds the prompt's end).
    moves:  by open position, KL divergences from each of the block's passes to the next (`klass`).
    """

    scores: Tensor
    emittable: Tensor
    start: int
    first_masks: int
    num_blocks: int
    step: int
    params: DecodingParams
    moves: Mapping[int, Sequence[float]] = field(default_factory=dict)

    @property
    def open(self) -> list[int]:
        """Undecided positions of the block, from 0."""
        return torch.nonzero(~self.scores[:, 0].isnan()).flatten().tolist()

    def best(self, position: int) -> int:
        """The candidate of a position of the block: its most probable token that may be emitted."""
        return int(self.scores[position].masked_fill(~self.emittable, -math.inf).argmax())

    def log_odds(self, position: int, token: int) -> float:
        """log p / (1 - p) of a token under the softmax over the whole vocabulary."""
        others = self.scores[position].clone()
        others[token] = -math.inf
        return float(self.scores[position, token] - others.logsumexp(0))

    def entropy(self, position: int) -> float:
        """In nats: log Z - E[l], logits counted from the largest one, which so loses no digits near 0."""
        behind, best = self.scores[position] - self.scores[position].max(), self.scores[position].argmax()
        behind = behind[torch.arange(len(behind)) != best]
        log_z = behind.exp().sum().log1p()
        return float(log_z - ((behind - log_z).exp() * behind).sum())

    def commits(self, nudges: Mapping[int, float] | None = None) -> dict[int, int]:
        """Answer position -> token that the rule commits. nudges: by position of the block, how much surer
        than it was (in log-odds, in nats), to ask what would have been."""
        tokens = {i: self.best(i) for i in self.open}
        nudges = dict.fromkeys(tokens, 0.0) | dict(nudges or {})
        odds = {i: self.log_odds(i, token) + nudges[i] for i, token in tokens.items()}
        return {self.start + i: tokens[i] for i in sorted(self._rule(odds, nudges))}

    def _rule(self, odds: dict[int, float], nudges: Mapping[int, float]) -> set[int]:
        own = self.params
        if own.rule == "entropy":
            return self._entropy_bounded(nudges)
        order = sorted(odds, key=lambda i: (-odds[i], i))  # ties go to the lower position
        p = {i: probability(odds[i]) for i in order}
        sure = [p[i] for i in order]
        if own.rule == "fixed":
            return set(order[: max(1, self._quota())])
        if own.rule in ("threshold", "credit"):
            return {order[0]} | {i for i in order if p[i] >= own.threshold}
        if own.rule == "factor":
            count = 1
            while count < len(sure) and sure[count] >= 1 - own.factor / (count + 2):
                count += 1
            return set(order[:count])
        if own.rule == "frechet":
            counts = range(1, len(sure) + 1)
            enough = [n for n in counts if sum(sure[:n]) - (n - 1) - (1 - sure[n - 1]) >= own.delta]
            return set(order[: max([1, *enough])])
        if own.rule == "klass":
            return {i for i in order if p[i] > own.threshold and self._settled(i, nudges[i])} or {order[0]}
        assert own.rule == "hierarchical", own.rule
        best_of_runs = {min(run, key=order.index) for run in _runs(sorted(odds))}
        low = {i for i in best_of_runs if p[i] >= own.low_threshold}
        return {order[0]} | low | {i for i in order if p[i] >= own.threshold}

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

    def _quota(self) -> int:
        own = self.params
        per_block = own.steps_per_block
        if own.steps is not None:
            per_block = math.ceil(own.steps / self.num_blocks)
        if per_block is None:
            return own.tokens_per_step or 1
        return self.first_masks // per_block + (self.step < self.first_masks % per_block)


def probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds)) if log_odds > 0 else 1 - 1 / (1 + math.exp(log_odds))


def _runs(positions: Sequence[int]) -> list[list[int]]:
    """Neighbours together."""
    runs: list[list[int]] = []
    for i in positions:
        if runs and runs[-1][-1] == i - 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs


class Oracle:
    """One request, pass by pass: `propose`, then `commit` what is to stand.

    model: see llada_exp/models/base.py, float32. Raises ValueError for parameters it does not define.

    edges: row positions at which blocks begin, and the row's end.
    """

    def __init__(self, model: Any, prompt: Sequence[int], params: DecodingParams) -> None:
        if reason := undefined(params):
            raise ValueError(f"the oracle does not decode {reason}")
        self.model, self.params, self.num_prompt = model, params, len(prompt)
        self.kind = model.visibility.kind
        self.length = params.block_length or model.visibility.block_length or 32
        self.edges = self._edges(len(prompt), params.max_tokens)
        self.row = torch.tensor([*prompt, *[model.special.mask] * (self.edges[-1] - len(prompt))])
        self.decided = torch.zeros(self.edges[-1] - len(prompt), dtype=torch.bool)
        self.step = 0  # of the block
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}
        self._credit = torch.zeros(0)
        self._before: dict[int, Tensor] = {}
        self._moves: dict[int, list[float]] = {}

    @property
    def done(self) -> bool:
        return bool(self.decided.all())

    def _edges(self, num_prompt: int, max_tokens: int) -> list[int]:
        last = num_prompt + max_tokens
        if self.kind == "block_causal":  # whole blocks, counted from the row's first position
            first = num_prompt - num_prompt % self.length
            return list(range(first, last + self.length, self.length))
        return [*range(num_prompt, last, self.length), last]

    @property
    def _block(self) -> int:
        """The leftmost with an undecided position."""
        first = self.num_prompt + int((~self.decided).nonzero()[0])
        return max(b for b, edge in enumerate(self.edges) if edge <= first)

    @torch.inference_mode()
    def propose(self) -> Proposal:
        """One pass. Pure but for the K/V, the credit and the moves that belong to it: call it once, then
        `commit`."""
        start, stop = self.edges[self._block : self._block + 2]
        decided = torch.cat([torch.ones(self.num_prompt, dtype=torch.bool), self.decided])
        open_ = ~decided[start:stop]
        # A shifted model's first position of a block hangs on the row before it, which only a cached block's
        # first pass forwards: that pass is for it alone.
        if self.model.shift and self.params.cache != "none" and self.step == 0 and open_[0]:
            open_[1:] = False
        scores = self._logits(start, stop).double()
        if self.params.rule == "credit":
            scores = self._with_credit(scores, open_)
        self._move(scores, open_)
        emittable = torch.ones(scores.shape[1], dtype=torch.bool)
        if self.params.ban_ids:
            emittable[self.model.special.num_emittable :] = False
            emittable[self.model.special.mask] = False
        scores = scores.masked_fill(~open_[:, None], math.nan)
        first_masks = stop - max(start, self.num_prompt)
        return Proposal(
            scores,
            emittable,
            start - self.num_prompt,
            first_masks,
            len(self.edges) - 1,
            self.step,
            self.params,
            {i: list(divergences) for i, divergences in self._moves.items()},
        )

    def commit(self, tokens: dict[int, int]) -> None:
        """Write tokens at undecided answer positions of the block."""
        block = self._block
        for position, token in tokens.items():
            assert not self.decided[position], "a committed token never changes"
            self.row[self.num_prompt + position] = token
            self.decided[position] = True
        self.step = 0 if self.done or self._block != block else self.step + 1

    def answer(self) -> list[int] | None:
        """Ids through the first end, or max_tokens of them; None while one of those is undecided."""
        ids = self.row[self.num_prompt :].tolist()[: self.params.max_tokens]
        if not self.params.ignore_eos:
            ends = [i for i, token in enumerate(ids) if token in self.model.special.ends]
            ids = ids[: ends[0] + 1] if ends else ids
        return ids if self.decided[: len(ids)].all() else None

    def _with_credit(self, logits: Tensor, open_: Tensor) -> Tensor:
        """What earlier steps of the block wanted counts for it (CreditDecoding, dInfer)."""
        if self.step == 0:
            self._credit = torch.zeros_like(logits)
        self._credit = DECAY * self._credit
        for i in torch.nonzero(open_).flatten().tolist():
            p = logits[i].softmax(0)
            self._credit[i, p.argmax()] += p.max() ** POWER
        return logits + WEIGHT * torch.log1p(self._credit)

    def _move(self, logits: Tensor, open_: Tensor) -> None:
        """Add D(p_t || p_{t-1}) of every open position to those of the block (KLASS, arXiv 2511.05664)."""
        if self.step == 0:
            self._before, self._moves = {}, {}
        for i in torch.nonzero(open_).flatten().tolist():
            now = logits[i].log_softmax(0)
            if i in self._before:
                divergence = float((now.exp() * (now - self._before[i])).sum())
                self._moves.setdefault(i, []).append(max(0.0, divergence))
            self._before[i] = now

    def _logits(self, start: int, stop: int) -> Tensor:
        """float32 [B, V] of row positions [start, stop), the block."""
        window = self.params.suffix_window
        visible = len(self.row) if window is None else min(len(self.row), stop + window)
        if self.params.canvas == "grow" or self.kind != "full":
            visible = stop
        device = self.model.device
        # Row i of a shifted model speaks of i + 1; row 0 of 0, too.
        rows = [max(i - self.model.shift, 0) for i in range(start, stop)]
        if self.params.cache == "none":
            length = stop - start if self.kind == "causal_context" else self.length
            return self.model.logits(self.row[None, :visible].to(device), length)[0, rows].cpu()
        first, last = self._forwarded(start, stop, visible)
        unseen = torch.tensor(
            [[not self._sees(i, j, start) for j in range(visible)] for i in range(first, last)]
        )

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            empty = k.new_zeros(len(self.row), *k.shape[1:])
            keys, values = self._kept.setdefault(layer, (empty, empty.clone()))
            keys[first:last], values[first:last] = k, v
            shared = q.shape[1] // k.shape[1]  # heads of q that share one of k and v
            all_k, all_v = (x[:visible].repeat_interleave(shared, dim=1) for x in (keys, values))
            weights = torch.einsum("qhd,khd->hqk", q, all_k) / math.sqrt(q.shape[-1])
            weights = weights.masked_fill(unseen.to(weights.device), -math.inf)
            return torch.einsum("hqk,khd->qhd", weights.softmax(-1), all_v)

        ids, places = self.row[first:last].to(device), torch.arange(first, last, device=device)
        hidden = self.model.hidden(ids, places, attend)
        return self.model.head(hidden[[max(row - first, 0) for row in rows]]).cpu()

    def _sees(self, i: int, j: int, start: int) -> bool:
        """Whether row position i sees j while the block that begins at `start` is current."""
        if self.kind == "block_causal":
            return j // self.length <= i // self.length
        if self.kind == "causal_context" and i < start:
            return j <= i
        return True

    def _forwarded(self, start: int, stop: int, visible: int) -> tuple[int, int]:
        """Row positions that a cached pass forwards; of the others, the K/V of their last pass are seen."""
        own, block = self.params, self._block
        if self.step > 0:
            return start, visible if own.cache == "prefix" else stop
        if self.kind != "full":  # K/V of the block before are final only now that all of it is decided
            return self.edges[block - 1] if block else 0, stop
        if block > 0 and own.refresh == "window":
            last = min(visible, stop + own.refresh_window) if own.suffix_window is None else visible
            return max(0, start - own.refresh_window), last
        if block > 0 and own.refresh == "prompt_every" and block % own.refresh_interval:
            return self.num_prompt, visible
        return 0, visible


def undefined(params: DecodingParams) -> str | None:
    """Why the oracle does not decode such a request, or None."""
    if params.rule not in RULES:
        return f"rule={params.rule}, which gate/oracle.py does not define"
    if params.cache not in CACHES:
        return f"cache={params.cache}, which gate/oracle.py does not define"
    for name, declared in DECLARATIONS.items():
        value = getattr(params, name)
        if name not in DEFINED and not declared.rules and value != declared.default:
            return f"{name}={value}"
    return None


def decode(model: Any, prompt: Sequence[int], params: DecodingParams) -> tuple[list[int], int]:
    """Ids of the answer, from decoding the whole canvas, and the passes that took."""
    oracle, passes = Oracle(model, prompt, params), 0
    while not oracle.done:
        oracle.commit(oracle.propose().commits())
        passes += 1
    ids = oracle.answer()
    assert ids is not None
    return ids, passes
