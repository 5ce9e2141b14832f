"""`dual`: K/V of the whole row are kept from the block's first pass (Fast-dLLM, arXiv 2505.22618).

Later passes forward the block alone, against the kept K/V of all the rest. Approximate: neither
side of the block sees its new tokens until the next block begins.
"""

from __future__ import annotations

from llada_exp.caches.base import Cursor, Pass, Policy, refresh


def next_pass(cursor: Cursor) -> Pass:
    if cursor.block_step == 0:
        return refresh(cursor)
    return Pass(cursor.block_start, cursor.block_end, keys=cursor.visible, keep=True)


POLICY = Policy(next_pass)
