"""What fails together, in two halves, until what fails alone is found. Knows nothing of what is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from llada_exp.engine.errors import check_device, is_out_of_memory

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_halves(
    run: Callable[[Sequence[Item]], Sequence[Result]],
    items: Sequence[Item],
    device: torch.device,
    too_many: Callable[[Sequence[Item]], None] = lambda items: None,
) -> list[Result | Exception]:
    """A result for each item, or the error with which it fails alone.

    run: may be called again with items of a call that raised.
    too_many: called with items for which there was not enough memory together, and in halves was.

    Raises DeviceLostError where the device is beyond that.
    """
    try:
        return list(run(items))
    except Exception as caught:
        error = caught
    # Behind the handler, for the error holds the tensors of the pass that failed.
    check_device(device, error)
    if len(items) == 1:
        return [error]
    middle = len(items) // 2
    results = [r for half in (items[:middle], items[middle:]) for r in in_halves(run, half, device, too_many)]
    if is_out_of_memory(error) and not any(isinstance(result, Exception) for result in results):
        too_many(items)
    return results


def all_in_halves(
    run: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item], device: torch.device
) -> list[Result]:
    """A result for each item. Raises the first error with which one fails alone."""
    whole: list[Result] = []
    for result in in_halves(run, items, device):
        if isinstance(result, Exception):
            raise result
        whole.append(result)
    return whole
