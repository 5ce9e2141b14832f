"""What does not fit the device's memory at once, in two halves. Knows nothing of what is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_halves(
    run: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item], device: torch.device
) -> list[Result]:
    """A result for each item. Raises torch.OutOfMemoryError where one item alone does not fit."""
    try:
        return list(run(items))
    except torch.OutOfMemoryError:
        if len(items) == 1:
            raise
    # Behind the handler, for the error holds the tensors of the pass that failed.
    if device.type == "cuda":
        torch.cuda.empty_cache()
    middle = len(items) // 2
    return in_halves(run, items[:middle], device) + in_halves(run, items[middle:], device)
