"""`none`: every pass forwards the row; exact."""

from __future__ import annotations

from llada_exp.caches.base import WITHOUT_SUFFIX, Cursor, Pass, Policy


def next_pass(cursor: Cursor) -> Pass:
    if cursor.owns_pass and cursor.context < cursor.context_end:
        return Pass(0, cursor.context_end, keys=cursor.context_end, keep=False, stores=True)
    return Pass(0, cursor.visible, keys=cursor.visible, keep=False)


POLICY = Policy(next_pass, exact_for=("full", *WITHOUT_SUFFIX), keeps=False)
