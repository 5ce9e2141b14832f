"""`none`: every pass forwards the row; exact."""

from __future__ import annotations

from llada_exp.caches.base import WITHOUT_SUFFIX, Cursor, Pass, Policy


def next_pass(cursor: Cursor) -> Pass:
    return Pass(0, cursor.visible, keys=cursor.visible, keep=False)


POLICY = Policy(next_pass, exact_for=("full", *WITHOUT_SUFFIX))
