"""LLaDA (Nie et al., arXiv 2502.09992), native: a LLaMA-like transformer without a causal mask.

Parameter names are those of the published safetensors (GSAI-ML/LLaDA-8B-Instruct, -Base, 1.5), so
that a checkpoint loads name by name. The module knows nothing of rows, padding or caches: see
`models/base.py` for the contract and the letters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llada_exp.models.base import Attend, ModelShape, SpecialIds

# Switches of the published config, with the only value that this class implements.
_IMPLEMENTED: dict[str, tuple[Any, ...]] = {
    "activation_type": ("silu",),
    "block_type": ("llama",),
    "block_group_size": (1,),
    "layer_norm_type": ("rms",),
    "layer_norm_with_affine": (True,),
    "rope": (True,),
    "rope_full_precision": (True,),
    "alibi": (False,),
    "multi_query_attention": (None, False),
    "attention_layer_norm": (False,),
    "input_emb_norm": (False,),
    "include_bias": (False,),
    "include_qkv_bias": (False,),
    "bias_for_layer_norm": (None, False),
    "scale_logits": (False,),
    "weight_tying": (False,),
}


@dataclass(frozen=True)
class LLaDAConfig:
    """Shapes of a LLaDA checkpoint, read from its config.json."""

    d_model: int
    n_layers: int
    n_heads: int
    mlp_hidden_size: int
    vocab_size: int
    max_sequence_length: int
    rope_theta: float
    rms_norm_eps: float
    mask_token_id: int
    eos_token_id: int

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_heads

    @classmethod
    def from_dict(cls, raw: dict[str, Any], where: str) -> LLaDAConfig:
        """Read a config.json. Raises ValueError naming `where`, the key, what stands there and
        what this class implements."""
        if raw.get("model_type") != "llada":
            raise ValueError(
                f"{where}: model_type is {raw.get('model_type')!r}; expected 'llada' "
                "(LLaDA-8B-Base, LLaDA-8B-Instruct, LLaDA-1.5 and checkpoints of that shape)"
            )
        for key, allowed in _IMPLEMENTED.items():
            if key in raw and raw[key] not in allowed:
                raise ValueError(f"{where}: {key} is {raw[key]!r}; only {allowed[0]!r} is implemented")
        n_heads = _positive_int(raw, "n_heads", where)
        if (raw.get("n_kv_heads") or n_heads) != n_heads:
            raise ValueError(
                f"{where}: n_kv_heads is {raw['n_kv_heads']}; only n_kv_heads == n_heads "
                f"({n_heads}) is implemented"
            )
        vocab = _positive_int(raw, "embedding_size" if raw.get("embedding_size") else "vocab_size", where)
        config = cls(
            d_model=_positive_int(raw, "d_model", where),
            n_layers=_positive_int(raw, "n_layers", where),
            n_heads=n_heads,
            mlp_hidden_size=_positive_int(raw, "mlp_hidden_size", where),
            vocab_size=vocab,
            max_sequence_length=_positive_int(raw, "max_sequence_length", where),
            rope_theta=_positive_float(raw, "rope_theta", where),
            rms_norm_eps=_positive_float(raw, "rms_norm_eps", where),
            mask_token_id=_token_id(raw, "mask_token_id", vocab, where),
            eos_token_id=_token_id(raw, "eos_token_id", vocab, where),
        )
        if config.d_model % n_heads or config.head_dim % 2:
            raise ValueError(
                f"{where}: d_model {config.d_model} over n_heads {n_heads} must give an even head width"
            )
        return config

    def to_dict(self) -> dict[str, Any]:
        """The config.json of a checkpoint that `from_dict` and the published code read."""
        switches = {key: allowed[0] for key, allowed in _IMPLEMENTED.items()}
        return {
            "model_type": "llada",
            "architectures": ["LLaDAModelLM"],
            **switches,
            "d_model": self.d_model,
            "n_layers": self.n_layers,
            "n_heads": self.n_heads,
            "n_kv_heads": self.n_heads,
            "mlp_hidden_size": self.mlp_hidden_size,
            "vocab_size": self.vocab_size,
            "embedding_size": self.vocab_size,
            "max_sequence_length": self.max_sequence_length,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.rms_norm_eps,
            "mask_token_id": self.mask_token_id,
            "eos_token_id": self.eos_token_id,
            "pad_token_id": self.eos_token_id,
        }


def _positive_int(raw: dict[str, Any], key: str, where: str) -> int:
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{where}: {key} is {value!r}; expected a positive integer")
    return value


def _positive_float(raw: dict[str, Any], key: str, where: str) -> float:
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{where}: {key} is {value!r}; expected a positive number")
    return float(value)


def _token_id(raw: dict[str, Any], key: str, vocab: int, where: str) -> int:
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < vocab:
        raise ValueError(f"{where}: {key} is {value!r}; expected an id from 0 to {vocab - 1}")
    return value


class RMSNorm(nn.Module):
    """Computed in float32, cast back, then scaled: the published order, which bf16 bits depend on."""

    def __init__(self, d_model: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Half-split rotary embedding in float32. x [M, H, D]; cos, sin float32 [M, 1, D // 2]."""
    low, high = x.float().chunk(2, dim=-1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1).to(x.dtype)


class Block(nn.Module):
    """One pre-norm layer: bidirectional attention, then SwiGLU (`ff_proj` is the gate)."""

    def __init__(self, config: LLaDAConfig) -> None:
        super().__init__()
        d, hidden = config.d_model, config.mlp_hidden_size
        self.n_heads = config.n_heads
        self.attn_norm = RMSNorm(d, config.rms_norm_eps)
        self.ff_norm = RMSNorm(d, config.rms_norm_eps)
        self.q_proj = nn.Linear(d, d, bias=False)
        self.k_proj = nn.Linear(d, d, bias=False)
        self.v_proj = nn.Linear(d, d, bias=False)
        self.attn_out = nn.Linear(d, d, bias=False)
        self.ff_proj = nn.Linear(d, hidden, bias=False)
        self.up_proj = nn.Linear(d, hidden, bias=False)
        self.ff_out = nn.Linear(hidden, d, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, layer: int, attend: Attend) -> Tensor:
        """x [M, d] -> [M, d]."""
        heads = (x.shape[0], self.n_heads, -1)
        normed = self.attn_norm(x)
        q = rotate(self.q_proj(normed).view(heads), cos, sin)
        k = rotate(self.k_proj(normed).view(heads), cos, sin)
        v = self.v_proj(normed).view(heads)
        x = x + self.attn_out(attend(layer, q, k, v).reshape(x.shape))
        normed = self.ff_norm(x)
        return x + self.ff_out(F.silu(self.ff_proj(normed)) * self.up_proj(normed))


class LLaDA(nn.Module):
    """The network as checkpoints hold it and as it trains; `models/packed.py` is what infers. Build on
    the meta device, then assign weights."""

    def __init__(self, config: LLaDAConfig, special: SpecialIds | None = None) -> None:
        super().__init__()
        self.config = config
        self._special = special
        transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config.vocab_size, config.d_model),
                "blocks": nn.ModuleList(Block(config) for _ in range(config.n_layers)),
                "ln_f": RMSNorm(config.d_model, config.rms_norm_eps),
                "ff_out": nn.Linear(config.d_model, config.vocab_size, bias=False),
            }
        )
        self.model = nn.ModuleDict({"transformer": transformer})
        self._rope: tuple[Tensor, Tensor] | None = None

    @property
    def transformer(self) -> nn.ModuleDict:
        return self.model["transformer"]  # type: ignore[return-value]

    @property
    def shape(self) -> ModelShape:
        c = self.config
        return ModelShape(
            d_model=c.d_model,
            n_layers=c.n_layers,
            n_heads=c.n_heads,
            n_kv_heads=c.n_heads,
            head_dim=c.head_dim,
            mlp_hidden=c.mlp_hidden_size,
            vocab_size=c.vocab_size,
            max_length=c.max_sequence_length,
            num_parameters=sum(p.numel() for p in self.parameters()),
        )

    @property
    def special(self) -> SpecialIds:
        assert self._special is not None, "special ids are set by the checkpoint loader"
        return self._special

    def set_special(self, special: SpecialIds) -> None:
        self._special = special

    @property
    def device(self) -> torch.device:
        return self.transformer["wte"].weight.device  # type: ignore[return-value]

    @property
    def dtype(self) -> torch.dtype:
        return self.transformer["wte"].weight.dtype  # type: ignore[return-value]

    def rope(self) -> tuple[Tensor, Tensor]:
        """`rope_tables`, kept."""
        if self._rope is None or self._rope[0].device != self.device:
            self._rope = rope_tables(self.config, self.device)
        return self._rope

    def hidden(self, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """ids, positions int64 [M] -> hidden states [M, d], final norm applied."""
        transformer = self.transformer
        cos, sin = self.rope()
        cos, sin = cos[positions].unsqueeze(1), sin[positions].unsqueeze(1)
        x = transformer["wte"](ids)
        layers: nn.ModuleList = transformer["blocks"]  # type: ignore[assignment]
        for layer, block in enumerate(layers):
            x = block(x, cos, sin, layer, attend)
        return transformer["ln_f"](x)

    def head(self, hidden: Tensor) -> Tensor:
        """hidden [n, d] -> logits float32 [n, V]."""
        return self.transformer["ff_out"](hidden).float()

    def logits(self, ids: Tensor) -> Tensor:
        """ids int64 [N, T] -> logits float32 [N, T, V]: every position sees its whole row.

        Raises ValueError where T exceeds the model's maximum length or an id its vocabulary.
        """
        n_rows, length = check_ids(ids, self.config)
        ids = ids.to(self.device)
        positions = torch.arange(length, device=self.device).repeat(n_rows)
        hidden = self.hidden(ids.reshape(-1), positions, uniform_attention(n_rows))
        return self.head(hidden).view(n_rows, length, -1)


def rope_tables(config: LLaDAConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos, sin float32 [max_length, D // 2]. A table is no parameter, so a meta-device build has none,
    and a lookup (unlike a cos over a ragged length) gives the same bits for a position whatever is
    computed beside it."""
    steps = torch.arange(0, config.head_dim, 2, device=device, dtype=torch.float32)
    frequencies = 1.0 / (config.rope_theta ** (steps / config.head_dim))
    places = torch.arange(config.max_sequence_length, device=device, dtype=torch.float32)
    angles = places[:, None] * frequencies[None, :]
    return angles.cos(), angles.sin()


def check_ids(ids: Tensor, config: LLaDAConfig) -> tuple[int, int]:
    """(N, T) of ids [N, T]. Raises ValueError where the model cannot take them."""
    if ids.dim() != 2:
        raise ValueError(f"ids has shape {tuple(ids.shape)}; expected two dimensions [N, T]")
    n_rows, length = ids.shape
    if length > config.max_sequence_length:
        raise ValueError(f"T is {length}; the model's maximum is {config.max_sequence_length}")
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= config.vocab_size):
        raise ValueError(f"ids must be from 0 to {config.vocab_size - 1}")
    return n_rows, length


def uniform_attention(n_rows: int) -> Attend:
    """Full attention within each of `n_rows` rows of equal length, packed one after the other."""

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        split = (n_rows, -1, *q.shape[1:])
        q, k, v = (x.view(split).transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1)

    return attend
