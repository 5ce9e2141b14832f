"""Cache policies: which positions a pass forwards and keeps. One file each, named in `CACHES`."""

from llada_exp.caches.base import Cursor, Pass, Policy
from llada_exp.caches.dual import dual
from llada_exp.caches.none import none
from llada_exp.caches.prefix import prefix

CACHES: dict[str, Policy] = {"none": none, "prefix": prefix, "dual": dual}

__all__ = ["CACHES", "Cursor", "Pass", "Policy"]
