"""From logits of masked positions to candidates: token, confidence, order.

Rows are independent of each other bit by bit: every operation reduces within one row of logits,
and callers pad the number of rows (see engine/batch.py), because reductions over a single row are
split over threads and come out with other bits. Knows no block and no request.

Letters: m masked positions (flat, padded), V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llada_exp.models.base import SpecialIds

PAD_ROWS = 16
LARGEST_ODDS = 1e38
"""Beyond it odds are not told apart: float32 ends there. Smaller than infinity, which means more to rules."""


@dataclass(frozen=True)
class Sampling:
    """Of a pass where some position has a temperature: temperature, top_p float32, top_k int64 (0 = off) and
    uniform float64, [m] each, on the logits' device.

    rows: the positions that have one. any_cut: whether any of them has a top_k or top_p.
    """

    temperature: Tensor
    top_p: Tensor
    top_k: Tensor
    uniform: Tensor
    rows: tuple[int, ...]
    any_cut: bool


@dataclass(frozen=True)
class Bans:
    """Which ids each masked position may not choose, bool [m] each, on the logits' device: ban, the mask and
    ids without text; no_eos, an end id. any_no_eos, all_ban: of them, so that no device is asked."""

    ban: Tensor
    no_eos: Tensor
    any_no_eos: bool
    all_ban: bool


@dataclass(frozen=True)
class PositionParams:
    """How the masked positions are sampled and ranked; the common case takes no tensor.

    bans: None where every position may choose whatever has text.
    sampling: None where no position has a temperature.
    by_margin, by_entropy: positions that are ranked otherwise than by probability.
    """

    bans: Bans | None = None
    sampling: Sampling | None = None
    by_margin: tuple[int, ...] = ()
    by_entropy: tuple[int, ...] = ()


def choose(logits: Tensor, special: SpecialIds, params: PositionParams) -> tuple[Tensor, Tensor]:
    """logits float32 [m, V] (overwritten) -> token ids int64 [m], odds float32 [m].

    odds = sum over j != token of exp(l_j - l_token) = (1 - p) / p under the clean, full softmax:
    banned ids leave the choice, never the normaliser. Positions that are ranked by something else have the
    odds of that: see `_by_margin`, `_by_entropy`. One pass, no float64 (arXiv 2502.09992's
    code takes a float64 softmax over the canvas for the same order). NaN for logits that are not finite.
    """
    blocked, saved = _block(logits, special, params.bans)
    tokens = _argmax(logits, special, params.bans)
    if params.sampling is not None:
        tokens = _sample_rows(logits, tokens, special, params.sampling, params.bans)
    logits[:, blocked] = saved
    ranked = [
        (rows, rank(_padded_rows(logits, rows), _padded_rows(tokens, rows)))
        for rows, rank in ((params.by_margin, _by_margin), (params.by_entropy, _by_entropy))
        if rows
    ]
    chosen = logits.gather(1, tokens.unsqueeze(1))
    logits.sub_(chosen).scatter_(1, tokens.unsqueeze(1), -torch.inf)
    odds = logits.exp_().sum(dim=-1).clamp_(max=LARGEST_ODDS)
    for rows, other in ranked:
        index = torch.tensor(rows, device=odds.device)
        odds[index] = torch.where(odds[index].isnan(), odds[index], other[: len(rows)])
    return tokens, odds


def _padded_rows(values: Tensor, rows: tuple[int, ...]) -> Tensor:
    """Those rows, in whole multiples of PAD_ROWS."""
    return values[torch.tensor([*rows, *rows[:1] * (-len(rows) % PAD_ROWS)], device=values.device)]


def _by_margin(logits: Tensor, tokens: Tensor) -> Tensor:
    """Odds (1 - c) / c of c = the token's probability less that of the likeliest other one (Dream's
    `topk_margin`, arXiv 2508.15487); the largest, where another one is likelier."""
    chosen = logits.gather(1, tokens.unsqueeze(1))
    others = (logits - chosen).scatter_(1, tokens.unsqueeze(1), -torch.inf)
    next_best = others.amax(dim=-1).exp()
    behind = others.exp().sum(dim=-1) + next_best  # no difference of numbers near 1, to stay in order there
    return torch.where(next_best < 1, behind / (1 - next_best), LARGEST_ODDS).clamp(max=LARGEST_ODDS)


def _by_entropy(logits: Tensor, tokens: Tensor) -> Tensor:
    """Odds (1 - c) / c of c = exp(-H), H the position's entropy in nats (Dream's `entropy`): e^H - 1."""
    best = logits.argmax(dim=-1, keepdim=True)
    behind = (logits - logits.gather(1, best)).scatter_(1, best, -torch.inf)
    mass = behind.exp()
    spread = torch.special.xlogy(mass, mass).sum(dim=-1)
    total = mass.sum(dim=-1)
    return torch.expm1(torch.log1p(total) - spread / (1 + total)).clamp(max=LARGEST_ODDS)


def _block(logits: Tensor, special: SpecialIds, bans: Bans | None) -> tuple[slice | list[int], Tensor]:
    """Set single forbidden columns to -inf where forbidden; return them and what stood there."""
    if bans is None:
        column = slice(special.mask, special.mask + 1)
        saved = logits[:, column].clone()
        logits[:, column] = -torch.inf
        return column, saved
    blocked, forbid = [special.mask], [bans.ban]
    if bans.any_no_eos:
        blocked += list(special.ends)
        forbid += [bans.no_eos] * len(special.ends)
    saved = logits[:, blocked]
    logits[:, blocked] = saved.masked_fill(torch.stack(forbid, dim=1), -torch.inf)
    return blocked, saved


def _argmax(logits: Tensor, special: SpecialIds, bans: Bans | None) -> Tensor:
    emittable = logits[:, : special.num_emittable].argmax(dim=-1)
    if bans is None or bans.all_ban or special.num_emittable >= logits.shape[1]:
        return emittable
    return torch.where(bans.ban, emittable, logits.argmax(dim=-1))


def _sample_rows(
    logits: Tensor, tokens: Tensor, special: SpecialIds, params: Sampling, bans: Bans | None
) -> Tensor:
    """Replace the tokens of rows with a temperature by samples (inverse CDF, one uniform each).

    Whatever the temperature, nothing overflows: logits are taken relative to the largest, so that they only
    grow more negative, and the smallest temperature is float32's smallest normal number."""
    rows = list(params.rows)
    index = torch.tensor(rows + rows[:1] * (-len(rows) % PAD_ROWS), device=logits.device)
    scaled = logits[index]
    if special.num_emittable < logits.shape[1]:
        tail = scaled[:, special.num_emittable :]
        if bans is None:
            tail.fill_(-torch.inf)
        else:
            tail.masked_fill_(bans.ban[index].unsqueeze(1), -torch.inf)
    temperature = params.temperature[index].clamp(min=torch.finfo(torch.float32).tiny)
    scaled = (scaled - scaled.amax(dim=-1, keepdim=True)) / temperature.unsqueeze(1)
    probabilities = scaled.softmax(dim=-1)
    if params.any_cut:
        probabilities = _cut(probabilities, params.top_k[index], params.top_p[index])
    cdf = probabilities.double().cumsum(dim=-1)
    total = cdf[:, -1:]
    # Below the total even where the product rounds up to it: beyond it are ids of no probability.
    target = torch.minimum(
        params.uniform[index].unsqueeze(1) * total, total.nextafter(torch.zeros_like(total))
    )
    drawn = torch.searchsorted(cdf, target, right=True).squeeze(1).clamp(max=logits.shape[1] - 1)
    return tokens.index_copy(0, index[: len(rows)], drawn[: len(rows)])


def _cut(probabilities: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    """Keep the top_k most probable ids, then the smallest set of at least top_p of what is left; at least
    one, however small top_p is. Ties go to the lower id."""
    ordered, ids = probabilities.sort(dim=-1, descending=True, stable=True)
    place = torch.arange(ordered.shape[1], device=ordered.device)
    limit = torch.where(top_k > 0, top_k, ordered.shape[1]).unsqueeze(1)
    ordered = ordered.masked_fill(place >= limit, 0.0)
    before = ordered.double().cumsum(dim=-1) - ordered
    total = ordered.double().sum(dim=-1, keepdim=True)
    ordered = ordered.masked_fill((before >= top_p.double().unsqueeze(1) * total) & (place > 0), 0.0)
    return torch.zeros_like(probabilities).scatter(1, ids, ordered)
