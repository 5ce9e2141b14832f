"""Decoders to measure against, written from the published algorithms, with the costs they have.

`llada`: LLaDA's own sampler (arXiv 2502.09992): the whole canvas in every step. `fast_dllm`: prefix
and dual cache (arXiv 2505.22618). As in the public code: one row, logits and a float64 softmax over
everything forwarded, keys kept before rotation and rotated anew in every step, the prefix cache by
concatenation, and one wasted pass where a block completes in its first step. Weights and modules
are our LLaDA's; `tests/benchmarks` holds their ids to the reference vectors.

Letters: T row length, d model width, H heads, D head width, B block length, V vocabulary.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from llada_exp.models.llada import Block, LLaDA
from llada_exp.models.parts import rotate

LayerKV = tuple[Tensor, Tensor]


def llada(model: LLaDA, prompt: list[int], gen: int, block: int, steps: int) -> tuple[list[int], int]:
    """One row, greedy, `steps` over the canvas -> answer ids and forward passes."""
    x = _canvas(model, prompt, gen)
    per_block = steps // (gen // block)
    nfe = 0
    for start in range(len(prompt), len(prompt) + gen, block):
        quotas = _quotas(block, per_block)
        for quota in quotas:
            logits, _ = forward(model, x, torch.arange(len(x)), [])
            nfe += 1
            open_ = x == model.config.mask_token_id
            open_[start + block :] = False
            _commit(x, logits, open_, quota=quota)
    return x[len(prompt) :].tolist(), nfe


def fast_dllm(
    model: LLaDA,
    prompt: list[int],
    gen: int,
    block: int,
    steps: int,
    cache: str,
    threshold: float | None = None,
) -> tuple[list[int], int]:
    """One row, greedy, `cache` prefix or dual; a quota from `steps`, or `threshold`."""
    x = _canvas(model, prompt, gen)
    quotas = _quotas(block, steps // (gen // block))
    nfe = 0
    for start in range(len(prompt), len(prompt) + gen, block):
        end = start + block
        logits, outside = forward(model, x, torch.arange(len(x)), [])
        open_ = x == model.config.mask_token_id
        open_[end:] = False
        _commit(x, logits, open_, quotas[0], threshold)
        nfe += 1
        stop = end if cache == "dual" else len(x)
        if cache == "prefix":
            outside = [(k[:start], v[:start]) for k, v in outside]
        step = 1
        while True:
            if (
                step >= len(quotas)
                and threshold is None
                and not (x[start:end] == model.config.mask_token_id).any()
            ):
                break
            nfe += 1
            view = x[start:stop]
            logits, _ = forward(model, view, torch.arange(start, stop), outside, replace=cache == "dual")
            open_ = view == model.config.mask_token_id
            open_[block:] = False
            _commit(view, logits, open_, quotas[min(step, len(quotas) - 1)], threshold)
            step += 1
            if not (x[start:end] == model.config.mask_token_id).any():
                break
    return x[len(prompt) :].tolist(), nfe


def _canvas(model: LLaDA, prompt: list[int], gen: int) -> Tensor:
    return torch.tensor(prompt + [model.config.mask_token_id] * gen)


def _quotas(masks: int, steps: int) -> list[int]:
    whole, rest = divmod(masks, steps)
    return [whole + (i < rest) for i in range(steps)]


def _commit(x: Tensor, logits: Tensor, open_: Tensor, quota: int, threshold: float | None = None) -> None:
    """Write into x [T] the candidates that are committed; open_ bool [T]. Softmax in float64 over
    all of it, as the public code does."""
    tokens = logits.argmax(-1)
    probability = logits.double().softmax(-1)
    confidence = probability.gather(-1, tokens[:, None])[:, 0].masked_fill(~open_, -torch.inf)
    if threshold is None:
        chosen = confidence.topk(min(quota, int(open_.sum()))).indices
        x[chosen] = tokens[chosen]
        return
    if open_.any():
        best = torch.zeros_like(open_)
        best[confidence.argmax()] = True
        chosen_mask = open_ & ((confidence >= threshold) | best)
        x[chosen_mask] = tokens[chosen_mask]


@torch.inference_mode()
def forward(
    model: LLaDA, ids: Tensor, positions: Tensor, outside: list[LayerKV], replace: bool = False
) -> tuple[Tensor, list[LayerKV]]:
    """ids [T'] at `positions` -> logits [T', V], and K/V of each layer before rotation [T, H, D].

    outside: K/V of what is not forwarded; fresh ones are appended, or put in their place (`replace`).
    """
    cos, sin = model.rope()
    transformer = model.transformer
    x = transformer["wte"](ids)
    fresh: list[LayerKV] = []
    blocks = cast(list[Block], transformer["blocks"])
    for layer, block in enumerate(blocks):
        heads = (len(ids), block.n_heads, -1)
        normed = block.attn_norm(x)
        q, k, v = (p(normed).view(heads) for p in (block.q_proj, block.k_proj, block.v_proj))
        if outside:
            old_k, old_v = outside[layer]
            if replace:
                old_k[positions], old_v[positions] = k, v
                k, v = old_k, old_v
            else:
                k, v = torch.cat([old_k, k]), torch.cat([old_v, v])
        fresh.append((k, v))
        places = torch.arange(len(k)) if outside else positions
        q = rotate(q, cos[positions].unsqueeze(1), sin[positions].unsqueeze(1))
        k = rotate(k, cos[places].unsqueeze(1), sin[places].unsqueeze(1))  # all of them, every step
        q, k, v = (t.transpose(0, 1).unsqueeze(0) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v)
        x = x + block.attn_out(out.squeeze(0).transpose(0, 1).reshape(x.shape))
        normed = block.ff_norm(x)
        x = x + block.ff_out(F.silu(block.ff_proj(normed)) * block.up_proj(normed))
    return model.head(transformer["ln_f"](x)), fresh


@torch.inference_mode()
def lockstep_padded(
    model: LLaDA, prompts: list[list[int]], gen: int, block: int, steps: int
) -> tuple[list[list[int]], int]:
    """All rows in one batch, padded on the left to the longest (with a right key mask and row
    positions), no cache, every row at the same step: the predecessor's way, made correct."""
    longest = max(map(len, prompts))
    mask = model.config.mask_token_id
    x = torch.full((len(prompts), longest + gen), mask)
    pads = torch.tensor([longest - len(p) for p in prompts])
    for row, prompt in enumerate(prompts):
        x[row, longest - len(prompt) : longest] = torch.tensor(prompt)
    positions = (torch.arange(x.shape[1]) - pads[:, None]).clamp(min=0)
    visible = (torch.arange(x.shape[1]) >= pads[:, None])[:, None, None, :]
    nfe = 0

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (t.view(*x.shape, *t.shape[1:]).transpose(1, 2) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        return out.transpose(1, 2).flatten(0, 1)

    for start in range(longest, longest + gen, block):
        for quota in _quotas(block, steps // (gen // block)):
            hidden = model.hidden(x.view(-1), positions.view(-1), attend)
            logits = model.head(hidden.view(*x.shape, -1)[:, start : start + block].flatten(0, 1))
            nfe += 1
            for row, part in enumerate(logits.view(len(prompts), block, -1)):
                view = x[row, start : start + block]
                _commit(view, part, view == mask, quota)
    return x[:, longest:].tolist(), nfe
