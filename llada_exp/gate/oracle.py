"""What the engine is held to: greedy decoding of one row in float32, each definition written out plainly.

Shares the network's layers with the engine and nothing else: no packing, no slots, no attention of its
own shapes, no candidates, cache policies or rules of its code. Without a cache every pass is the model's
plain forward of the whole row. With one, K/V stand in arrays as long as the row. Softmax in float64.
Slow: one row, one pass at a time. Where the definitions are from: docs/decoding.md.

Letters: P prompt, G canvas, B block length, T = P + G, V vocabulary, H heads, D head width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from llada_exp.gate.oracle_rules import RULES, Proposal
from llada_exp.types import DECLARATIONS, DecodingParams

CACHES = ("none", "prefix", "dual")
DEFINED = {
    "max_tokens", "block_length", "canvas", "rule", "cache", "refresh", "refresh_window", "refresh_interval",
    "suffix_window", "stop_token_ids", "ignore_eos", "early_eos", "ban_ids", "trace", "logprobs",
    "top_p", "top_k", "seed",
}  # fmt: skip
"""Fields that are defined beside those of the rules; the last three belong to sampling, and mean nothing
without it. Whatever else there is stands at its default, or the request is not one for the oracle."""

DECAY, POWER, WEIGHT = 0.8, 0.2, 0.7  # of `credit`


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
        self.block = 0
        self.step = 0  # of the block
        self._full_steps = 0  # of the block: passes that began without a mask in it
        self._seeding = False  # the pass that was proposed last is no denoising
        self._opening = False  # it is for the block's first position alone
        self._seeds = model.visibility.context == "seeds"
        self._kv: dict[int, tuple[Tensor, Tensor]] = {}
        self._credit = torch.zeros(0)
        self._before: dict[int, Tensor] = {}
        self._moves: dict[int, list[float]] = {}

    @property
    def done(self) -> bool:
        return self.block == len(self.edges) - 1

    def _edges(self, num_prompt: int, max_tokens: int) -> list[int]:
        last = num_prompt + max_tokens
        if self.kind == "block_causal":  # whole blocks, counted from the row's first position
            first = num_prompt - num_prompt % self.length
            return list(range(first, last + self.length, self.length))
        return [*range(num_prompt, last, self.length), last]

    @torch.inference_mode()
    def propose(self) -> Proposal:
        """One pass. Pure but for the K/V, the credit and the moves that belong to it: call it once, then
        `commit`."""
        start, stop = self.edges[self.block : self.block + 2]
        decided = torch.cat([torch.ones(self.num_prompt, dtype=torch.bool), self.decided])
        open_ = ~decided[start:stop]
        seeds = self._seeds and self.step == 0 and bool(open_.all())
        # A shifted model's first position of a block hangs on the row before it, which only a cached block's
        # first pass forwards: that pass is for it alone.
        opens = bool(self.model.shift and self.params.cache != "none" and self.step == 0 and open_[0])
        self._seeding, self._opening = seeds, opens
        if opens or seeds:
            open_[1:] = False
        scores = self._logits(start, stop, seeds).double()
        if self.params.rule == "credit" and not seeds:
            scores = self._with_credit(scores, open_)
        if not seeds:
            self._move(scores, open_)
        emittable = torch.ones(scores.shape[1], dtype=torch.bool)
        if self.params.ban_ids:
            emittable[self.model.special.num_emittable :] = False
            emittable[self.model.special.mask] = False
        first = max(start, self.num_prompt)  # where the answer's part of the block begins
        changes = self.params.rule == "edit" and not opens and not seeds
        standing = {i - start: int(self.row[i]) for i in range(first, stop) if changes and decided[i]}
        if self.model.shift and self.params.cache != "none":  # of the first position later passes say nothing
            standing.pop(0, None)
        places = open_.clone()
        places[list(standing)] = True
        scores = scores.masked_fill(~places[:, None], math.nan)
        self._full_steps += changes and not open_.any()
        steps = self.params.steps or 0
        if self.params.steps is None:
            steps_per_block = self.params.steps_per_block
            if steps_per_block and self.model.visibility.caps_steps:
                steps_per_block = min(steps_per_block, self.params.max_tokens)
        elif self.kind == "full":
            steps_per_block = math.ceil(steps / (len(self.edges) - 1))
        else:
            steps_per_block = math.ceil(steps * self.length / self.params.max_tokens)
        return Proposal(
            scores,
            emittable,
            start - self.num_prompt,
            stop - first,
            self.step,
            self.params,
            {i: list(divergences) for i, divergences in self._moves.items()},
            opens or seeds,
            seeds,
            steps_per_block,
            self.length,
            standing,
        )

    def commit(self, tokens: dict[int, int]) -> None:
        """Write tokens at answer positions of the block, undecided ones or such as its rule may overwrite."""
        start, stop = (edge - self.num_prompt for edge in self.edges[self.block : self.block + 2])
        began_full = bool(self.decided[max(start, 0) : stop].all())
        edited = any(self.decided[position] for position in tokens)
        for position, token in tokens.items():
            assert self.params.rule == "edit" or not self.decided[position], "a committed token never changes"
            self.row[self.num_prompt + position] = token
            self.decided[position] = True
        if self._seeding:
            self._seeding = False
        else:
            self.step += 1
        if not self.decided[max(start, 0) : stop].all():
            return
        # Passes that begin without a mask go on until one of them edits nothing, or enough are done. In a
        # block of one position, after its opening pass, there is nothing that they could edit.
        may_edit = self.params.rule == "edit" and self.step and not self._opening
        may_edit = may_edit and self._full_steps < self.params.max_post_steps
        if may_edit and (edited or not began_full):
            return
        self.block, self.step, self._full_steps = self.block + 1, 0, 0

    def answer(self) -> list[int] | None:
        """Ids through the first end, or max_tokens of them; None while one of those is undecided."""
        ids = self.row[self.num_prompt :].tolist()[: self.params.max_tokens]
        stops = {*self.params.stop_token_ids, *(() if self.params.ignore_eos else self.model.special.ends)}
        ends = [i for i, token in enumerate(ids) if token in stops]
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

    def _logits(self, start: int, stop: int, seeds: bool) -> Tensor:
        """float32 [B, V] of row positions [start, stop), the block; seeds: all of them of the row before it,
        while all before the block is context."""
        window = self.params.suffix_window
        visible = len(self.row) if window is None else min(len(self.row), stop + window)
        if self.params.canvas == "grow" or self.kind != "full":
            visible = stop
        device = self.model.device
        # Row i of a shifted model speaks of i + 1; row 0 of 0, too.
        rows = [max(i - self.model.shift, 0) for i in range(start, stop)]
        if seeds:
            rows, visible = [start - 1] * (stop - start), start
        if self.params.cache == "none" and self.kind != "block_context":
            length = stop - start if self.kind == "causal_context" else self.length
            row = self.row[None, :visible].to(device)
            return self.model.logits(row, None if seeds else length)[0, rows].cpu()
        first, last = self._forwarded(start, stop, visible)
        if seeds or self.params.cache == "none":
            first, last = 0, visible
        unseen = torch.tensor(
            [[not self._sees(i, j, start) for j in range(visible)] for i in range(first, last)]
        )

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            empty = k.new_zeros(len(self.row), *k.shape[1:])
            keys, values = self._kv.setdefault(layer, (empty, empty.clone()))
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
        if self.kind == "block_context":
            block, other = ((place - self.num_prompt) // self.length for place in (i, j))
            return j < self.num_prompt or 0 <= other <= block
        return True

    def _forwarded(self, start: int, stop: int, visible: int) -> tuple[int, int]:
        """Row positions that a cached pass forwards; of the others, the K/V of their last pass are seen."""
        params, block = self.params, self.block
        if self.step > 0:
            return start, visible if params.cache == "prefix" else stop
        if self.kind != "full":  # K/V of the block before are final only now that all of it is decided
            return self.edges[block - 1] if block else 0, stop
        if block > 0 and params.refresh == "window":
            last = min(visible, stop + params.refresh_window) if params.suffix_window is None else visible
            return max(0, start - params.refresh_window), last
        if block > 0 and params.refresh == "prompt_every" and block % params.refresh_interval:
            return self.num_prompt, visible
        return 0, visible


def undefined(params: DecodingParams) -> str | None:
    """Why the oracle does not decode such a request, or None."""
    if params.rule not in RULES:
        return f"rule={params.rule}, which gate/oracle_rules.py does not define"
    if params.cache not in CACHES:
        return f"cache={params.cache}, which gate/oracle.py does not define"
    by_place = params.rule != "entropy" and params.remasking in ("topk_margin", "entropy")
    for name, declared in DECLARATIONS.items():
        value = getattr(params, name)
        if name == "remasking" and by_place:
            continue
        if name not in DEFINED and not declared.rules and value != declared.default:
            return f"{name}={value}"
    return None
