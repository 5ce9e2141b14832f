"""How many positions a step forwards at most, where nobody says so."""

from __future__ import annotations

import torch

STEP_POSITIONS, STEP_POSITIONS_ON_CPU = 8192, 2048
"""On a CPU a step of 8192 positions cost eight times the page faults of four of 2048 at 31M parameters, and
gained nothing, for a CPU is busy long before (docs/data/engine_speed.txt)."""


def step_positions(max_positions: int | None, device: torch.device) -> int:
    """As asked for, or with None what suits the device. Answers do not depend on it."""
    if max_positions is not None:
        return max_positions
    return STEP_POSITIONS_ON_CPU if device.type == "cpu" else STEP_POSITIONS
