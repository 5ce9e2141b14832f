"""By which parameters a model decodes a request."""

from __future__ import annotations

from dataclasses import replace

from llada_exp.caches import CACHES
from llada_exp.fields import DecodingError
from llada_exp.models.base import Model
from llada_exp.models.family import alternatives
from llada_exp.types import DecodingParams


def effective(params: DecodingParams, model: Model) -> DecodingParams:
    """`EngineCore.effective`."""
    visibility = model.visibility
    if params.seed is None:
        params = replace(params, seed=0)
    if params.block_length is None:
        params = replace(params, block_length=visibility.blocks_of(None))
    if visibility.stops == "after":
        params = replace(params, early_eos=False)
    if not visibility.sees_suffix:
        faults = {}
        if visibility.kind not in CACHES[params.cache].exact_for:
            exact = alternatives(name for name, p in CACHES.items() if visibility.kind in p.exact_for)
            faults["cache"] = (
                f"cache is {params.cache!r}; this model's blocks see nothing beyond themselves: expected "
                f"{exact}, which are exact here"
            )
        if params.refresh != "every_block":
            faults["refresh"] = (
                f"refresh is {params.refresh!r}; this model's K/V of finished blocks never change: "
                "expected every_block"
            )
        if faults:
            raise DecodingError("; ".join(faults.values()), next(iter(faults)))
    return params
