"""What one part of a layer takes on a device: attention of block passes over kept keys, by backend.

Shapes are those of block steps: n rows of B queries, each over its own keys in slots of T positions. A
backend that this torch or this device has not is a row with its error.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llada_exp.models.base import ModelShape

Call = Callable[[], Tensor]


def median_ms(call: Callable[[], object], device: torch.device, repeats: int = 20) -> float:
    """Milliseconds of a call, the device's work included; calls are issued one by one."""
    times = []
    for repeat in range(-3, repeats):
        _wait(device)
        start = time.perf_counter()
        call()
        _wait(device)
        if repeat >= 0:
            times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def stream_ms(call: Callable[[], object], device: torch.device, calls: int = 32) -> float:
    """Milliseconds of each of many calls issued without waiting: the device's, unless the host is slower."""
    call()
    _wait(device)
    start = time.perf_counter()
    for _ in range(calls):
        call()
    _wait(device)
    return 1e3 * (time.perf_counter() - start) / calls


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def attention_rows(
    shape: ModelShape,
    device: torch.device,
    dtype: torch.dtype,
    sizes: Sequence[tuple[int, int, int]],
    backends: Sequence[str],
) -> Iterator[dict[str, Any]]:
    """sizes: (n rows, B queries, T keys); backends: of `BACKENDS`."""
    for name in backends:
        for rows, width, keys in sizes:
            make = BACKENDS[name]
            row: dict[str, Any] = {"backend": name, "rows": rows, "queries": width, "keys": keys}
            try:
                inputs = _Inputs(shape, device, dtype, rows, width, keys)
                call = make(inputs)
                row["difference"] = float((call().float() - inputs.expected().float()).abs().max())
                row["ms"] = median_ms(call, device)
                row["stream_ms"] = stream_ms(call, device)
            except Exception as error:
                row["error"] = f"{type(error).__name__}: {str(error)[:200]}"
            yield row


class _Inputs:
    """q [n B, H, D]; keys, values [n, T, K, D] of slots; lengths: of each row, of its T keys."""

    def __init__(
        self, shape: ModelShape, device: torch.device, dtype: torch.dtype, rows: int, width: int, keys: int
    ) -> None:
        make = torch.Generator(device).manual_seed(0)

        def random(*size: int) -> Tensor:
            return torch.randn(*size, device=device, generator=make).to(dtype)

        self.rows, self.width, self.most = rows, width, keys
        self.q = random(rows * width, shape.n_heads, shape.head_dim)
        self.keys = random(rows, keys, shape.n_kv_heads, shape.head_dim)
        self.values = random(rows, keys, shape.n_kv_heads, shape.head_dim)
        self.lengths = torch.tensor([keys - 7 * (i % 5) for i in range(rows)], device=device)
        visible = torch.arange(keys, device=device) < self.lengths[:, None]
        self.mask = torch.zeros(rows, 1, 1, keys, device=device, dtype=dtype)
        self.mask.masked_fill_(~visible[:, None, None], -torch.inf)
        self.grouped = shape.n_heads != shape.n_kv_heads

    def sdpa(self) -> Tensor:
        q = self.q.unflatten(0, (self.rows, self.width)).transpose(1, 2)
        k, v = self.keys.transpose(1, 2), self.values.transpose(1, 2)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, enable_gqa=self.grouped)
        return out.transpose(1, 2).flatten(0, 1)

    expected = sdpa

    def starts(self, width: int) -> Tensor:
        """int32 [n + 1]: where each row's `width` positions begin."""
        return torch.arange(0, (self.rows + 1) * width, width, device=self.q.device, dtype=torch.int32)


def _varlen(inputs: _Inputs) -> Call:
    """torch's packed attention over slots, each used up to its own length."""
    from torch.nn.attention.varlen import varlen_attn

    k, v = inputs.keys.flatten(0, 1), inputs.values.flatten(0, 1)
    starts, bounds = inputs.starts(inputs.width), inputs.starts(inputs.most)
    used = inputs.lengths.to(torch.int32)
    sizes = (starts, bounds, inputs.width, inputs.most)
    return lambda: varlen_attn(inputs.q, k, v, *sizes, seqused_k=used)  # type: ignore[return-value]


def _paged(inputs: _Inputs, page: int = 256) -> Call:
    """The same over pages of a pool."""
    from torch.nn.attention.varlen import varlen_attn

    pages = -(-inputs.most // page)
    pad = (0, 0, 0, 0, 0, pages * page - inputs.most)
    k, v = (F.pad(x, pad).unflatten(1, (pages, page)).flatten(0, 1) for x in (inputs.keys, inputs.values))
    table = torch.arange(inputs.rows * pages, device=k.device, dtype=torch.int32).view(inputs.rows, pages)
    starts, used = inputs.starts(inputs.width), inputs.lengths.to(torch.int32)
    return lambda: varlen_attn(  # type: ignore[return-value]
        inputs.q, k, v, starts, None, inputs.width, pages * page, seqused_k=used, block_table=table
    )


def _flash_without_lengths(inputs: _Inputs) -> Call:
    """What packed attention would cost at best: no mask (its difference is expected)."""
    q = inputs.q.unflatten(0, (inputs.rows, inputs.width)).transpose(1, 2)
    k, v = inputs.keys.transpose(1, 2), inputs.values.transpose(1, 2)

    def call() -> Tensor:
        out = F.scaled_dot_product_attention(q, k, v, enable_gqa=inputs.grouped)
        return out.transpose(1, 2).flatten(0, 1)

    return call


def _flex(inputs: _Inputs) -> Call:
    """FlexAttention, compiled, with a mask of each row's length."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    lengths = inputs.lengths

    def visible(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return k < lengths[b]

    sizes = (inputs.rows, None, inputs.width, inputs.most)
    mask = create_block_mask(visible, *sizes, device=str(inputs.q.device))
    compiled = torch.compile(flex_attention, dynamic=False)
    q = inputs.q.unflatten(0, (inputs.rows, inputs.width)).transpose(1, 2).contiguous()
    k, v = (x.transpose(1, 2).contiguous() for x in (inputs.keys, inputs.values))

    def call() -> Tensor:
        out = compiled(q, k, v, block_mask=mask, enable_gqa=inputs.grouped)
        return out.transpose(1, 2).flatten(0, 1)

    return call


BACKENDS: dict[str, Callable[[_Inputs], Call]] = {
    "sdpa_mask": lambda inputs: inputs.sdpa,
    "sdpa_no_mask": _flash_without_lengths,
    "varlen": _varlen,
    "varlen_paged": _paged,
    "flex": _flex,
}
