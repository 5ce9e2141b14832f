"""LLaDA (Nie et al., arXiv 2502.09992), native: a LLaMA-like transformer without a causal mask.

Parameter names are those of the published safetensors (GSAI-ML/LLaDA-8B-Instruct, -Base, 1.5), so
that a checkpoint loads name by name. `LLaDA` is what they load into and what trains; it becomes a
`PackedModel` to infer, whose numbers agree to float32 rounding (tests/models). Knows nothing of rows, padding
or caches: see `models/base.py` for the contract and the letters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llada_exp.models import family
from llada_exp.models.attention import row_attention
from llada_exp.models.base import FULL, Attend, ModelShape, SpecialIds, Visibility
from llada_exp.models.packed import PackedModel, check_ids
from llada_exp.models.parts import FusedQKV, GatedMLP, RMSNorm, Rotary, linear_of, rope_tables, rotate

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
    """Shapes of a LLaDA checkpoint (`models.family.Architecture`), read from its config.json."""

    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    mlp_hidden_size: int
    vocab_size: int
    max_sequence_length: int
    rope_theta: float
    rms_norm_eps: float
    mask_token_id: int
    eos_token_id: int  # the first, where config.json has several

    @property
    def visibility(self) -> Visibility:
        return FULL

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_heads

    @property
    def shape(self) -> ModelShape:
        return ModelShape(
            d_model=self.d_model,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            n_kv_heads=self.n_kv_heads,
            head_dim=self.head_dim,
            mlp_hidden=self.mlp_hidden_size,
            vocab_size=self.vocab_size,
            max_length=self.max_sequence_length,
            num_parameters=family.num_parameters(self),
        )

    def network(self) -> LLaDA:
        return LLaDA(self)

    def ready(self, network: LLaDA, special: SpecialIds, release: bool = False) -> PackedModel:
        """`models.family.Architecture.ready`."""
        return packed(network, special, release)

    @classmethod
    def from_dict(cls, raw: family.RawConfig, where: str) -> LLaDAConfig:
        """Read a config.json. Raises ValueError naming `where`, the key, what stands there and
        what this class implements."""
        family.refuse_others(raw, _IMPLEMENTED, where)
        n_heads, n_kv_heads = family.head_counts(raw, "n_heads", "n_kv_heads", where)
        vocab = family.positive_int(
            raw, "embedding_size" if raw.get("embedding_size") else "vocab_size", where
        )
        eos = raw.get("eos_token_id")
        eos = {"eos_token_id": eos[0] if isinstance(eos, list) and eos else eos}
        sizes = ("d_model", "n_layers", "mlp_hidden_size", "max_sequence_length")
        config = cls(
            **{key: family.positive_int(raw, key, where) for key in sizes},
            rope_theta=family.positive_float(raw, "rope_theta", where),
            rms_norm_eps=family.positive_float(raw, "rms_norm_eps", where),
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            vocab_size=vocab,
            mask_token_id=family.token_id(raw, "mask_token_id", vocab, where),
            eos_token_id=family.token_id(eos, "eos_token_id", vocab, where),
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
            **asdict(self),
            "embedding_size": self.vocab_size,
            "pad_token_id": self.eos_token_id,
        }


class Block(nn.Module):
    """One pre-norm layer: bidirectional attention, then SwiGLU (`ff_proj` is the gate)."""

    def __init__(self, config: LLaDAConfig) -> None:
        super().__init__()
        d, hidden = config.d_model, config.mlp_hidden_size
        keys = config.n_kv_heads * config.head_dim
        self.n_heads, self.n_kv_heads = config.n_heads, config.n_kv_heads
        self.attn_norm = RMSNorm(d, config.rms_norm_eps)
        self.ff_norm = RMSNorm(d, config.rms_norm_eps)
        self.q_proj = nn.Linear(d, d, bias=False)
        self.k_proj = nn.Linear(d, keys, bias=False)
        self.v_proj = nn.Linear(d, keys, bias=False)
        self.attn_out = nn.Linear(d, d, bias=False)
        self.ff_proj = nn.Linear(d, hidden, bias=False)
        self.up_proj = nn.Linear(d, hidden, bias=False)
        self.ff_out = nn.Linear(hidden, d, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, layer: int, attend: Attend, rows: Tensor | None = None
    ) -> Tensor:
        """x [M, d] -> [M, d], or of `rows` int64 [R] alone: [R, d]."""
        heads, keys = (x.shape[0], self.n_heads, -1), (x.shape[0], self.n_kv_heads, -1)
        normed = self.attn_norm(x)
        q = rotate(self.q_proj(normed).view(heads), cos, sin)
        k = rotate(self.k_proj(normed).view(keys), cos, sin)
        v = self.v_proj(normed).view(keys)
        mixed = attend(layer, q, k, v).reshape(x.shape)
        if rows is not None:
            x, mixed = x[rows], mixed[rows]
        x = x + self.attn_out(mixed)
        normed = self.ff_norm(x)
        return x + self.ff_out(F.silu(self.ff_proj(normed)) * self.up_proj(normed))


class LLaDA(nn.Module):
    """The network as checkpoints hold it and as it trains. Build on the meta device, then assign weights."""

    def __init__(self, config: LLaDAConfig) -> None:
        super().__init__()
        self.config = config
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
    def device(self) -> torch.device:
        return self.transformer["wte"].weight.device  # type: ignore[return-value]

    def rope(self) -> tuple[Tensor, Tensor]:
        """`rope_tables`, kept."""
        if self._rope is None or self._rope[0].device != self.device:
            self._rope = _tables(self.config, self.device)
        return self._rope

    def hidden(self, ids: Tensor, positions: Tensor, attend: Attend, rows: Tensor | None = None) -> Tensor:
        """ids, positions int64 [M] -> hidden states [M, d], final norm applied; with `rows` int64 [R], of
        those positions alone [R, d], which the last layer's second half then computes alone."""
        transformer = self.transformer
        cos, sin = self.rope()
        cos, sin = cos[positions].unsqueeze(1), sin[positions].unsqueeze(1)
        x = transformer["wte"](ids)
        layers: nn.ModuleList = transformer["blocks"]  # type: ignore[assignment]
        for layer, block in enumerate(layers):
            x = block(x, cos, sin, layer, attend, rows if layer + 1 == len(layers) else None)
        return transformer["ln_f"](x)

    def head(self, hidden: Tensor) -> Tensor:
        """hidden [n, d] -> logits float32 [n, V]."""
        return self.transformer["ff_out"](hidden).float()

    def logits(self, ids: Tensor) -> Tensor:
        """ids int64 [N, T] -> logits float32 [N, T, V]: every position sees its whole row.

        Raises ValueError where T exceeds the model's maximum length or an id its vocabulary.
        """
        n_rows, length = check_ids(ids, self.config.max_sequence_length, self.config.vocab_size)
        ids = ids.to(self.device)
        positions = torch.arange(length, device=self.device).repeat(n_rows)
        hidden = self.hidden(ids.reshape(-1), positions, row_attention(n_rows, length))
        return self.head(hidden).view(n_rows, length, -1)


def _tables(config: LLaDAConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    return rope_tables(config.head_dim, config.rope_theta, config.max_sequence_length, device)


class _PackedBlock:
    """A `Block` as inference runs it: q, k and v are one product."""

    def __init__(self, block: Block, release: bool) -> None:
        self._attn_norm, self._ff_norm = block.attn_norm, block.ff_norm
        projections = (block.q_proj, block.k_proj, block.v_proj)
        self._n_heads = block.n_heads
        self._qkv = FusedQKV(projections, block.n_heads, block.n_kv_heads, release)
        self._attn_out = linear_of(block.attn_out, release)
        self._mlp = GatedMLP(block.ff_proj, block.up_proj, block.ff_out, release)

    def __call__(
        self, x: Tensor, at: tuple[Tensor, Tensor], number: int, attend: Attend, rows: Tensor | None
    ) -> Tensor:
        """`models.packed.Layer`."""
        qk, v = self._qkv(self._attn_norm(x))
        qk = Rotary.turn(qk, at)
        mixed = attend(number, qk[:, : self._n_heads], qk[:, self._n_heads :], v).flatten(1)
        if rows is not None:
            x, mixed = x.index_select(0, rows), mixed.index_select(0, rows)
        x = self._attn_out.plus(mixed, x)
        return self._mlp.plus(self._ff_norm(x), x)


@torch.no_grad()
def packed(network: LLaDA, special: SpecialIds, release: bool = False) -> PackedModel:
    """A LLaDA for inference. release: take the weights away from `network`, part by part, so that memory
    holds them once; it cannot be used afterwards."""
    shape = network.config.shape
    transformer: dict[str, Any] = dict(network.transformer.items())
    final_norm: Callable[[Tensor], Tensor] = transformer["ln_f"]
    return PackedModel(
        shape=shape,
        special=special,
        embedding=transformer["wte"].weight.detach(),
        place=Rotary(*_tables(network.config, network.device)),
        layers=[_PackedBlock(block, release) for block in transformer["blocks"]],
        final_norm=final_norm,
        to_logits=linear_of(transformer["ff_out"], release),
    )


FAMILY = family.Family(
    name="llada",
    published="LLaDA-8B-Base, LLaDA-8B-Instruct, LLaDA-1.5 and checkpoints of that shape",
    # LLaDA-MoE is of the same model_type.
    recognises=lambda raw: raw.get("model_type") == "llada" and not raw.get("num_experts"),
    read=LLaDAConfig.from_dict,
    settings=("mask_token_id",),
    end_tokens=("<|eot_id|>",),
)
