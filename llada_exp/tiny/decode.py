"""A small decoder for the trainer's own accuracy figures: batched, uncached, on a copy of nothing.

Rows are grouped by prompt length, so there is no padding. The engine is what serves; this exists so that
training needs no engine, and it knows nothing of caches, requests or text.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from llada_exp.models.llada import LLaDA, uniform_attention

BLOCK = 32


@torch.no_grad()
def decode(
    model: LLaDA, prompts: list[list[int]], canvas: int, threshold: float | None = None, max_rows: int = 64
) -> tuple[list[list[int]], int]:
    """Greedy block decoding, blocks of 32 from left to right; returns the answers and the number of forwards.

    A step commits the masked position of highest confidence in each row's block, and with `threshold` all
    that reach it. A row ends when its completed block holds EOS.
    """
    groups: dict[int, list[int]] = defaultdict(list)
    for number, prompt in enumerate(prompts):
        groups[len(prompt)].append(number)
    answers: list[list[int]] = [[] for _ in prompts]
    forwards = 0
    for length, members in groups.items():
        for first in range(0, len(members), max_rows):
            rows = members[first : first + max_rows]
            ids = torch.full((len(rows), length + canvas), model.config.mask_token_id)
            ids[:, :length] = torch.tensor([prompts[row] for row in rows])
            done, count = _decode_group(model, ids, length, threshold)
            forwards += count
            for row, tokens in zip(rows, done[:, length:].tolist(), strict=True):
                answers[row] = tokens
    return answers, forwards


def _decode_group(model: LLaDA, ids: Tensor, start: int, threshold: float | None) -> tuple[Tensor, int]:
    """ids int64 [N, T], masked from `start` on -> the same, decoded; unfinished rows only are forwarded."""
    mask = model.config.mask_token_id
    forwards = 0
    live = torch.arange(len(ids))
    for block in range(start, ids.shape[1], BLOCK):
        span = slice(block, block + BLOCK)
        while len(live):
            open_rows = live[(ids[live, span] == mask).any(1)]
            if not len(open_rows):
                break
            forwards += len(open_rows)
            tokens = ids[open_rows]
            positions = torch.arange(ids.shape[1]).repeat(len(open_rows))
            hidden = model.hidden(tokens.reshape(-1), positions, uniform_attention(len(open_rows)))
            logits = model.head(hidden.view(*tokens.shape, -1)[:, span])
            logits[..., mask] = float("-inf")
            confidence, choice = logits.softmax(-1).max(-1)
            confidence = confidence.masked_fill(tokens[:, span] != mask, -1.0)
            commit = torch.zeros_like(confidence, dtype=torch.bool)
            commit[torch.arange(len(open_rows)), confidence.argmax(1)] = True
            if threshold is not None:
                commit |= confidence >= threshold
            ids[open_rows, span] = torch.where(commit, choice, tokens[:, span])
        live = live[(ids[live, span] != model.config.eos_token_id).all(1)]
    return ids, forwards
