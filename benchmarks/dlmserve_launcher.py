"""Run `dlmserve` 0.1.1 on a checkpoint folder of the published layout, whatever its mask id.

    DLMSERVE_MODEL=FOLDER python dlmserve_launcher.py PORT

Runs in dlmserve's own environment (`pip install torch==2.13.0 dlmserve==0.1.1`, which brings
transformers < 5), without this project. dlmserve fixes LLaDA-8B's mask id and loads the model through
remote code; here both come from the folder. The forward is the published one: attention over the
padded batch with an additive mask, rotation in float32, logits of every position.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dlmserve.engine as engine
import torch
import torch.nn.functional as F
import uvicorn
from dlmserve.models.llada import LoadedLLaDA
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast


class PublishedLLaDA(nn.Module):
    """LLaDA's forward (arXiv 2502.09992) over tensors by their published names.

    Letters: N rows, T positions, H heads, D head width.
    """

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        super().__init__()
        self.config = SimpleNamespace(**json.loads((folder / "config.json").read_text()))
        weights = load_file(folder / "model.safetensors")
        self.w = {name.removeprefix("model.transformer."): t.to(dtype) for name, t in weights.items()}
        self.anchor = nn.Parameter(torch.zeros(1, dtype=dtype), requires_grad=False)  # says device and dtype

    def forward(self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor) -> Any:
        """input_ids, attention_mask, position_ids [N, T] -> an object with logits [N, T, V]."""
        config, w = self.config, self.w
        x = w["wte.weight"][input_ids]
        heads, width = config.n_heads, config.d_model // config.n_heads
        bias = None
        if not bool(attention_mask.all()):
            bias = torch.zeros(attention_mask.shape, dtype=x.dtype)
            bias = bias.masked_fill(attention_mask == 0, torch.finfo(x.dtype).min)[:, None, None, :]
        frequency = config.rope_theta ** (-torch.arange(0, width, 2).float() / width)
        angle = position_ids[:, None, :, None].float() * frequency
        angle = torch.cat([angle, angle], dim=-1)
        sin, cos = angle.sin(), angle.cos()
        for i in range(config.n_layers):
            block = f"blocks.{i}."
            h = self.norm(x, w[block + "attn_norm.weight"])
            q, k, v = (
                F.linear(h, w[f"{block}{name}_proj.weight"]).unflatten(-1, (heads, width)).transpose(1, 2)
                for name in "qkv"
            )
            q, k = rotate(q, sin, cos), rotate(k, sin, cos)
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
            x = x + F.linear(attended.transpose(1, 2).flatten(2), w[block + "attn_out.weight"])
            h = self.norm(x, w[block + "ff_norm.weight"])
            gated = F.silu(F.linear(h, w[block + "ff_proj.weight"])) * F.linear(
                h, w[block + "up_proj.weight"]
            )
            x = x + F.linear(gated, w[block + "ff_out.weight"])
        return SimpleNamespace(logits=F.linear(self.norm(x, w["ln_f.weight"]), w["ff_out.weight"]))

    def norm(self, x: Tensor, weight: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.config.rms_norm_eps)
        return weight * wide.to(x.dtype)


def rotate(x: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    """x [N, H, T, D], in float32 and back."""
    wide = x.float()
    first, second = wide.chunk(2, dim=-1)
    return (wide * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)


def load(model_id: str, dtype: str = "bf16", device: str = "cpu") -> LoadedLLaDA:
    """In the place of dlmserve's `load_model`."""
    folder = Path(model_id)
    kind = {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    model = PublishedLLaDA(folder, kind).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model_id)
    tokenizer.padding_side = "left"
    return LoadedLLaDA(model, tokenizer, torch.device(device), dtype, mask_id=model.config.mask_token_id)


def main() -> None:
    engine.load_model = load
    from dlmserve.api.server import app

    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")


if __name__ == "__main__":
    assert os.environ.get("DLMSERVE_MODEL"), "DLMSERVE_MODEL is the checkpoint folder"
    main()
