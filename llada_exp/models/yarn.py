"""YaRN (Peng et al., arXiv 2309.00071): rotary frequencies for rows longer than those of the first training.

Slow dimensions are stretched by the factor, fast ones stay, those between are a mixture. Knows no model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from llada_exp.models import family


@dataclass(frozen=True)
class Yarn:
    """factor: of the stretch. original: positions of the first training. fast, slow: turns over those
    positions from which on a dimension stays, and up to which it is stretched. magnitude: of cos and sin.
    truncate: whether the bounds between are whole dimensions."""

    factor: float
    original: int
    fast: float = 32.0
    slow: float = 1.0
    magnitude: float = 1.0
    truncate: bool = True

    def frequencies(self, width: int, theta: float, device: torch.device) -> Tensor:
        """float32 [width // 2], of a rotation over `width` dimensions."""
        low, high = (self._dimension(turns, width, theta) for turns in (self.fast, self.slow))
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, width - 1)
        places = torch.arange(width // 2, device=device, dtype=torch.float32)
        stretched = ((places - low) / (high - low if high != low else 0.001)).clamp(0, 1)
        powers = theta ** (torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
        return 1.0 / (self.factor * powers) * stretched + 1.0 / powers * (1 - stretched)

    def _dimension(self, turns: float, width: int, theta: float) -> float:
        """Which dimension makes so many turns over the original positions."""
        return width * math.log(self.original / (turns * 2 * math.pi)) / (2 * math.log(theta))


def read_yarn(raw: family.RawConfig, where: str) -> Yarn:
    """Of a `rope_parameters` of rope_type yarn. Raises ValueError naming where, key, value and what is
    expected."""
    factor = family.positive_float(raw, "factor", where)
    values: dict[str, float] = {}
    for key, name in (("beta_fast", "fast"), ("beta_slow", "slow"), ("attention_factor", "magnitude")):
        if raw.get(key) is not None:
            values[name] = family.positive_float(raw, key, where)
    values.setdefault("magnitude", _magnitude(raw, factor, where))
    truncate = raw.get("truncate") is None or family.flag(raw, "truncate", where)
    original = family.positive_int(raw, "original_max_position_embeddings", where)
    return Yarn(factor, original, **values, truncate=truncate)


def _magnitude(raw: family.RawConfig, factor: float, where: str) -> float:
    if factor <= 1:
        return 1.0
    if raw.get("mscale") and raw.get("mscale_all_dim"):
        one, all_ = (0.1 * family.positive_float(raw, k, where) * math.log(factor) + 1 for k in _SCALES)
        return one / all_
    return 0.1 * math.log(factor) + 1


_SCALES = ("mscale", "mscale_all_dim")
