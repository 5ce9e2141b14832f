"""`none`: every pass forwards the row; exact."""

from __future__ import annotations

from llada_exp.caches.base import Cursor, Pass


def none(cursor: Cursor) -> Pass:
    return Pass(0, cursor.visible, keys=cursor.visible, keep=False)
