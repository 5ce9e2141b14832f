"""Attention of the device path over the K/V pool, behind one seam (engine/kernels/base.py)."""

from __future__ import annotations

import torch

from llada_exp.engine.kernels.base import FixedSizes, Kernel, KernelInputs, PoolAttention
from llada_exp.engine.kernels.flex import Flex
from llada_exp.engine.kernels.sdpa import SDPA
from llada_exp.engine.kernels.varlen import VarLen, is_available

KERNELS: dict[str, type[Kernel]] = {"sdpa": SDPA, "flex": Flex, "varlen": VarLen}

__all__ = ["KERNELS", "FixedSizes", "Kernel", "KernelInputs", "PoolAttention", "kernel_of"]


def kernel_of(name: str | None, device: torch.device, dtype: torch.dtype) -> Kernel:
    """name: None chooses: varlen where it is there, else sdpa. Raises ValueError where there is none such, or
    not here."""
    if name is None:
        name = "varlen" if is_available(device, dtype) else "sdpa"
    if name not in KERNELS:
        raise ValueError(f"attention is {name!r}; expected one of {', '.join(KERNELS)}")
    if name == "varlen" and not is_available(device, dtype):
        dtype_name = str(dtype).removeprefix("torch.")
        raise ValueError(
            f"attention is 'varlen', which needs a CUDA device, bfloat16 or float16, and a torch that has it;"
            f" here is {device.type}, {dtype_name}, torch {torch.__version__}"
        )
    return KERNELS[name]()
