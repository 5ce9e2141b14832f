"""A toy family: causal before the current block, which sees itself both ways; or, by a setting, full."""

from dataclasses import replace

from llada_exp.models import family
from llada_exp.models.base import Visibility
from tests.families import grouped


def read(raw: family.RawConfig, where: str) -> grouped.Body:
    body = grouped.read(raw, where)
    family.refuse_others(raw, {"causal_context": (True, False)}, where)
    if raw.get("causal_context") is False:
        return body
    block_length = family.positive_int(raw, "block_length", where)
    return replace(body, visibility=Visibility("causal_context", block_length))


FAMILY = family.Family(
    name="toy_causal_context",
    published="none",
    recognises=lambda raw: raw.get("model_type") == "toy_causal_context",
    read=read,
    settings=("mask_token_id", "block_length", "causal_context"),
)
