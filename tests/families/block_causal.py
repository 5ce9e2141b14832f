"""A toy family: block-causal, on a grid anchored at 0. config.json does not say of what block length."""

from dataclasses import replace

from llada_exp.models import family
from llada_exp.models.base import Visibility
from tests.families import grouped


def read(raw: family.RawConfig, where: str) -> grouped.Body:
    block_length = family.positive_int(raw, "block_length", where)
    return replace(grouped.read(raw, where), visibility=Visibility("block_causal", block_length))


FAMILY = family.Family(
    name="toy_block_causal",
    published="none",
    recognises=lambda raw: raw.get("model_type") == "toy_block_causal",
    read=read,
    settings=("mask_token_id", "block_length"),
)
