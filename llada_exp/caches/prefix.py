"""`prefix`: K/V before the block are kept from its first pass (Fast-dLLM, arXiv 2505.22618).

Later passes of the block forward the block and everything after it. Approximate: what stands
before the block no longer sees the block's new tokens. Exact where no block sees beyond itself.
"""

from __future__ import annotations

from llada_exp.caches.base import WITHOUT_SUFFIX, Cursor, Pass, Policy, final, refresh


def next_pass(cursor: Cursor) -> Pass:
    if not cursor.sees_suffix:
        return final(cursor)
    if cursor.block_step == 0:
        return refresh(cursor)
    return Pass(cursor.block_start, cursor.visible, keys=cursor.visible, keep=True)


POLICY = Policy(next_pass, exact_for=WITHOUT_SUFFIX)
