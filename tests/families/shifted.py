"""A toy family: the logits of row i speak of position i + 1. Its body is `grouped`'s."""

from dataclasses import replace

from llada_exp.models import family
from tests.families import grouped


def read(raw: family.RawConfig, where: str) -> grouped.Body:
    return replace(grouped.read(raw, where), shift=1)


FAMILY = family.Family(
    name="toy_shifted",
    published="none",
    recognises=lambda raw: raw.get("model_type") == "toy_shifted",
    read=read,
    settings=("mask_token_id",),
)
