"""Cache policies: which positions a pass forwards and keeps. One file each, found by its name in
`types.CACHES`."""

from importlib import import_module

from llada_exp import types
from llada_exp.caches.base import Cursor, Pass, Policy

CACHES: dict[str, Policy] = {name: import_module(f"{__name__}.{name}").POLICY for name in types.CACHES}

__all__ = ["CACHES", "Cursor", "Pass", "Policy"]
