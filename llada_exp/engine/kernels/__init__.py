"""Attention of the device path over the K/V pool, behind one seam (engine/kernels/base.py)."""

from __future__ import annotations

import torch

from llada_exp.engine.kernels.base import FixedSizes, Kernel, KernelInputs, PoolAttention
from llada_exp.engine.kernels.flex import Flex
from llada_exp.engine.kernels.sdpa import SDPA
from llada_exp.engine.kernels.varlen import VarLen, is_available
from llada_exp.models.base import Model

KERNELS: dict[str, type[Kernel]] = {"sdpa": SDPA, "flex": Flex, "varlen": VarLen}

__all__ = ["KERNELS", "FixedSizes", "Kernel", "KernelInputs", "PoolAttention", "kernel_of"]


def kernel_of(name: str | None, model: Model) -> Kernel:
    """name: None chooses: varlen where it is there, else sdpa. Raises ValueError where there is none such, or
    not here."""
    device, dtype, head_dim = model.device, model.dtype, model.shape.head_dim
    has_varlen = is_available(device, dtype, head_dim)
    if name is None:
        name = "varlen" if has_varlen else "sdpa"
    if name not in KERNELS:
        raise ValueError(f"attention is {name!r}; expected one of {', '.join(KERNELS)}")
    if name == "varlen" and not has_varlen:
        dtype_name = str(dtype).removeprefix("torch.")
        raise ValueError(
            "attention is 'varlen', which needs CUDA of compute capability 8.0, bfloat16 or float16, heads of"
            " a multiple of 8 up to 256, and a torch that has it; here is"
            f" {device.type}, {dtype_name}, heads of {head_dim}, torch {torch.__version__}"
        )
    return KERNELS[name]()
