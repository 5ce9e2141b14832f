"""How each masked position of a step is sampled and ranked: its request's parameters and random numbers.

Letters: m positions of the current blocks whose logits are computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from llada_exp.engine.request import Request
from llada_exp.rules.base import RANK_STREAM, TOKEN_STREAM, uniforms
from llada_exp.rules.candidates import PositionParams


def sampling_of(requests: Sequence[Request], padded: int, device: torch.device) -> PositionParams:
    """Per masked position, padded by repeating the last one's parameters."""
    counts = np.array([len(r.logit_positions) for r in requests], dtype=np.int64)
    source = np.repeat(np.arange(len(requests)), counts)
    source = np.pad(source, (0, padded - len(source)), mode="edge")
    params = [r.params for r in requests]

    def column(values: list[float], dtype: type) -> Tensor:
        return torch.from_numpy(np.array(values, dtype=dtype)[source]).to(device)

    is_sampled = np.array([p.temperature > 0 for p in params], dtype=np.bool_)[source]
    is_sampled[counts.sum() :] = False
    uniform = np.full(padded, 0.5)
    if is_sampled.any():
        draws = [uniforms(r.seed, r.logit_positions, r.nfe, TOKEN_STREAM) for r in requests]
        uniform[: counts.sum()] = np.concatenate(draws)
    return PositionParams(
        temperature=column([p.temperature or 1.0 for p in params], np.float32),
        top_p=column([p.top_p for p in params], np.float32),
        top_k=column([p.top_k for p in params], np.int64),
        uniform=torch.from_numpy(uniform).to(device),
        ban=column([p.ban_ids for p in params], np.bool_),
        no_eos=column([p.eos_confidence == "forbid" for p in params], np.bool_),
        sampled=tuple(np.flatnonzero(is_sampled).tolist()),
        by_margin=_of_kind(requests, "topk_margin"),
        by_entropy=_of_kind(requests, "entropy"),
        any_no_eos=any(p.eos_confidence == "forbid" for p in params),
        all_ban=all(p.ban_ids for p in params),
        any_cut=any(p.temperature > 0 and (p.top_k > 0 or p.top_p < 1) for p in params),
    )


def _of_kind(requests: Sequence[Request], remasking: str) -> tuple[int, ...]:
    """The masked positions of requests that rank so."""
    counts = [len(r.logit_positions) for r in requests]
    return tuple(
        np.flatnonzero(np.repeat([r.params.remasking == remasking for r in requests], counts)).tolist()
    )


def rank_uniforms(requests: Sequence[Request], device: torch.device) -> Tensor | None:
    """float32 [m]: the random confidence of `remasking = random` positions, NaN elsewhere."""
    if all(r.params.remasking != "random" for r in requests):
        return None
    draws = [
        uniforms(r.seed, r.logit_positions, r.nfe, RANK_STREAM)
        if r.params.remasking == "random"
        else np.full(len(r.logit_positions), np.nan)
        for r in requests
    ]
    return torch.from_numpy(np.concatenate(draws).astype(np.float32)).to(device)
