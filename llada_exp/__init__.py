"""Serve, measure and evaluate LLaDA-style masked-diffusion language models.

The offline API is imported on first use, so that `import llada_exp` costs neither torch nor a GPU.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from llada_exp import extras

if TYPE_CHECKING:
    from llada_exp.checkpoints import load_model as load_model
    from llada_exp.types import DecodingParams as DecodingParams

_LAZY = {
    "DecodingParams": ("llada_exp.types", "DecodingParams"),
    "Engine": ("llada_exp.offline", "Engine"),
    "load_model": ("llada_exp.checkpoints", "load_model"),
}
__all__ = ["DecodingParams", "Engine", "load_model"]

if sys.argv[:1] == ["-m"]:  # Python looks for one of our programs: python -m llada_exp...
    sys.excepthook = extras.excepthook


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
