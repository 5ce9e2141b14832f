"""What a step fails with, and which of it a new process alone can mend.

A want of memory and a row that raises concern that row: the engine finds it and goes on. A device whose
context is broken (a device-side assert, an illegal access) answers every later call with the same error.
"""

from __future__ import annotations

import traceback

import torch

_WANT_OF_MEMORY = (
    "DefaultCPUAllocator: ", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
)  # fmt: skip
"""In the words of a plain RuntimeError; torch has a class of its own for its GPU allocator alone."""


class NotFiniteError(ValueError):
    """A row's logits hold NaN, or infinity where a token would be chosen."""

    def __init__(self, dtype: torch.dtype) -> None:
        of_dtype = ", or overflow in float16: use dtype=bfloat16 or float32" if dtype == torch.float16 else ""
        super().__init__(
            "the model's output is not finite: its weights hold NaN or infinity (a damaged or a diverged "
            f"checkpoint){of_dtype}"
        )


class DoesNotFitError(RuntimeError):
    """A request's pass needs more memory than there is, even alone."""

    def __init__(self) -> None:
        super().__init__(
            "out of memory, although its step ran alone: ask for a shorter prompt or answer, or a smaller "
            "block_length; sending it again does not help"
        )


class DeviceLostError(RuntimeError):
    """The device answers nothing any more; only a new process helps."""


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WANT_OF_MEMORY)


def explained(error: Exception) -> Exception:
    """The error with which a request fails alone, in words for who sent it."""
    if not is_out_of_memory(error):
        return error
    too_large = DoesNotFitError()
    too_large.__cause__ = error
    return too_large


def check_device(device: torch.device, error: BaseException) -> None:
    """After a step that raised `error`: free what it held, and see that the device still computes. Raises
    DeviceLostError. Asked of the device, for its errors come late and their words differ."""
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)  # they hold the tensors of the pass
        cause = cause.__context__
    if device.type != "cuda":
        return
    try:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        lives = bool(torch.ones((), device=device).add(1) == 2)
    except Exception as broken:
        if not is_out_of_memory(broken):
            raise DeviceLostError(f"the device is lost ({error}; then {broken})") from error
    else:
        if not lives:
            raise DeviceLostError(f"the device computes nothing after: {error}") from error
