"""How each masked position of a step is sampled and ranked: its request's parameters and random numbers.

Letters: m positions of the current blocks whose logits are computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from llada_exp.engine.pass_plan import PassPlan
from llada_exp.engine.request import Request
from llada_exp.rules.base import RANK_STREAM, TOKEN_STREAM, uniforms
from llada_exp.rules.candidates import Bans, PositionParams, Sampling


def sampling_of(
    requests: Sequence[Request], plans: Sequence[PassPlan], padded: int, device: torch.device
) -> PositionParams:
    """Per masked position, padded by repeating the last one's parameters. What no request asks for takes no
    column."""
    params = [r.params for r in requests]
    counts = [len(plan.logit_positions) for plan in plans]
    some_ban_nothing = not all(p.ban_ids for p in params)
    some_forbid_ends = any(p.eos_confidence == "forbid" for p in params)
    bans = None
    if some_ban_nothing or some_forbid_ends:
        source = _source(counts, padded)
        bans = Bans(
            ban=_column([p.ban_ids for p in params], source, np.bool_, device),
            no_eos=_column([p.eos_confidence == "forbid" for p in params], source, np.bool_, device),
            any_no_eos=some_forbid_ends,
            all_ban=not some_ban_nothing,
        )
    return PositionParams(
        bans=bans,
        sampling=_sampling(requests, plans, counts, padded, device),
        by_margin=_of_kind(requests, counts, "topk_margin"),
        by_entropy=_of_kind(requests, counts, "entropy"),
    )


def _sampling(
    requests: Sequence[Request],
    plans: Sequence[PassPlan],
    counts: Sequence[int],
    padded: int,
    device: torch.device,
) -> Sampling | None:
    params = [r.params for r in requests]
    if all(p.temperature == 0 for p in params):
        return None
    source, total = _source(counts, padded), sum(counts)
    is_sampled = np.array([p.temperature > 0 for p in params])[source]
    is_sampled[total:] = False
    uniform = np.full(padded, 0.5)
    uniform[:total] = np.concatenate(
        [
            uniforms(r.seed, plan.logit_positions, r.nfe, TOKEN_STREAM)
            for r, plan in zip(requests, plans, strict=True)
        ]
    )
    return Sampling(
        temperature=_column([p.temperature or 1.0 for p in params], source, np.float32, device),
        top_p=_column([p.top_p for p in params], source, np.float32, device),
        top_k=_column([p.top_k for p in params], source, np.int64, device),
        uniform=torch.from_numpy(uniform).to(device),
        rows=tuple(np.flatnonzero(is_sampled).tolist()),
        any_cut=any(p.temperature > 0 and (p.top_k > 0 or p.top_p < 1) for p in params),
    )


def _source(counts: Sequence[int], padded: int) -> np.ndarray:
    """int64 [padded]: of which request each position is."""
    source = np.full(padded, len(counts) - 1)
    source[: sum(counts)] = np.repeat(np.arange(len(counts)), counts)
    return source


def _column(values: Sequence[float], source: np.ndarray, dtype: type, device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=dtype)[source]).to(device)


def _of_kind(requests: Sequence[Request], counts: Sequence[int], remasking: str) -> tuple[int, ...]:
    """The masked positions of requests that rank so."""
    ranks_so = [r.params.remasking == remasking for r in requests]
    return tuple(np.flatnonzero(np.repeat(ranks_so, counts)).tolist()) if any(ranks_so) else ()


def rank_uniforms(
    requests: Sequence[Request], plans: Sequence[PassPlan], device: torch.device
) -> Tensor | None:
    """float32 [m]: the random confidence of `remasking = random` positions, NaN elsewhere."""
    if all(r.params.remasking != "random" for r in requests):
        return None
    draws = [
        uniforms(r.seed, plan.logit_positions, r.nfe, RANK_STREAM)
        if r.params.remasking == "random"
        else np.full(len(plan.logit_positions), np.nan)
        for r, plan in zip(requests, plans, strict=True)
    ]
    return torch.from_numpy(np.concatenate(draws).astype(np.float32)).to(device)
