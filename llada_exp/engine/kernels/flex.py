"""Attention over the pool by FlexAttention (arXiv 2412.05496): one call over the whole pool, of which each
block of queries reads the blocks of keys that its rows have pages in.

Which key a query sees is asked of a table of the pool's pages: at which position of the query's row a page
begins, if it has it. Pages that rows share are in the table of each. Keys that a mask hides are multiplied
all the same: a row whose numbers are not finite takes with it those in its blocks of queries, in that step.

Letters: those of engine/kernels/base.py; P pages of the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from llada_exp.engine.kernels.base import FixedSizes, KernelInputs, PoolAttention
from llada_exp.engine.pages import PAGE, num_pages
from llada_exp.engine.pooled import PooledRows, padded

BLOCK = 128
"""Queries and keys of a block; its kernels know no smaller ones."""
MOST_COMPILED = 64
NOWHERE = 2**40
"""Where a page begins that a row has not: beyond every limit."""


class Flex:
    name, reads_pool = "flex", True

    def fits(self, rows: PooledRows, fixed: FixedSizes | None) -> bool:
        return True

    def inputs(self, rows: PooledRows, fixed: FixedSizes | None, num_places: int) -> KernelInputs:
        num_tokens = rows.num_tokens if fixed is None else fixed.num_tokens
        num_rows = len(rows.slots) if fixed is None else fixed.num_rows
        row_of = padded(np.repeat(np.arange(len(rows.slots)), rows.widths), num_tokens)
        table = np.full((num_rows, num_places // PAGE), NOWHERE, dtype=np.int64)
        for row, slot in enumerate(rows.slots):
            count = num_pages(int(rows.keys[row]))
            table[row, slot.places(np.arange(count) * PAGE) // PAGE] = np.arange(count) * PAGE
        num, order = _blocks(row_of, table, -(-num_places // BLOCK))
        ints = {
            "rows": row_of,
            "limits": padded(rows.limits, num_tokens),
            "pages": table,
            "num_blocks": num,
            "blocks": order,
        }
        return KernelInputs(ints, (num_tokens, num_places))

    def attention(self, tensors: Mapping[str, Tensor], sizes: Hashable, dtype: torch.dtype) -> PoolAttention:
        rows, limits, pages = (tensors[name] for name in ("rows", "limits", "pages"))

        def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return pages[rows[query], key // PAGE] + key % PAGE < limits[query]

        num, order = (tensors[name].to(torch.int32)[None, None] for name in ("num_blocks", "blocks"))
        mask = BlockMask.from_kv_blocks(num, order, BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=sizes)  # type: ignore[arg-type]

        def attend(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            is_plain = q.device.type == "cpu" or torch.compiler.is_compiling()
            call: Any = flex_attention if is_plain else _compiled()
            q, keys, values = (x.transpose(0, 1)[None] for x in (q, keys, values))
            out = call(q, keys, values, block_mask=mask, enable_gqa=keys.shape[1] != q.shape[1])
            return out[0].transpose(0, 1)

        return attend


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., Any]:
    """Uncompiled it computes all scores: on a device that would be the whole pool's."""
    compiled = torch.compile(flex_attention, dynamic=True, fullgraph=True)

    def call(*args: Any, **kwargs: Any) -> Any:
        with torch._dynamo.config.patch(recompile_limit=MOST_COMPILED):  # sizes of one are compiled apart
            return compiled(*args, **kwargs)

    return call


def _blocks(row_of: np.ndarray, table: np.ndarray, num_key_blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """int64 [Q], of each block of queries how many blocks of keys it reads; [Q, K blocks], which, first."""
    num_blocks = -(-len(row_of) // BLOCK)
    has = np.zeros((len(table), num_key_blocks), dtype=bool)
    row, page = np.nonzero(table < NOWHERE)
    has[row, page * PAGE // BLOCK] = True
    reads = np.stack([has[np.unique(row_of[i * BLOCK : (i + 1) * BLOCK])].any(0) for i in range(num_blocks)])
    order = np.argsort(~reads, axis=1, kind="stable")
    return reads.sum(1), order
