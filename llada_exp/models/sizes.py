"""What families with a `Body` (models/body.py) read from config.json alike: sizes, and rotary positions."""

from __future__ import annotations

from typing import Any

from llada_exp.models import family
from llada_exp.models.yarn import Yarn, read_yarn


def read_sizes(
    raw: family.RawConfig, where: str, mlp_key: str = "intermediate_size", may_stretch: bool = False
) -> dict[str, Any]:
    """The fields of a `Body` that config.json has under the usual keys; K and D by their defaults where it
    does not say. may_stretch: whether the family's code knows rotary positions of the type yarn. Raises
    ValueError naming where, key, value and what is expected."""
    n_heads, n_kv_heads = family.head_counts(raw, "num_attention_heads", "num_key_value_heads", where)
    d_model = family.positive_int(raw, "hidden_size", where)
    if raw.get("head_dim") is not None:
        head_dim = family.positive_int(raw, "head_dim", where)
    elif d_model % n_heads:
        raise ValueError(f"{where}: num_attention_heads is {n_heads}; expected a divisor of {d_model}")
    else:
        head_dim = d_model // n_heads
    if head_dim % 2:
        raise ValueError(f"{where}: the head width is {head_dim}; expected an even number")
    vocab = family.positive_int(raw, "vocab_size", where)
    mask = raw.get("mask_token_id")
    theta, yarn = _rope(raw, where, may_stretch)
    return {
        "d_model": d_model,
        "n_layers": family.positive_int(raw, "num_hidden_layers", where),
        "n_heads": n_heads,
        "n_kv_heads": n_kv_heads,
        "head_dim": head_dim,
        "mlp_hidden": family.positive_int(raw, mlp_key, where),
        "vocab_size": vocab,
        "max_length": family.positive_int(raw, "max_position_embeddings", where),
        "rope_theta": theta,
        "yarn": yarn,
        "rms_norm_eps": family.positive_float(raw, "rms_norm_eps", where),
        "mask_token_id": None if mask is None else family.token_id(raw, "mask_token_id", vocab, where),
        "tied": family.flag(raw, "tie_word_embeddings", where),
    }


def _rope(raw: family.RawConfig, where: str, may_stretch: bool) -> tuple[float, Yarn | None]:
    """`rope_theta`, which stands by itself or as transformers 5 writes it, and how positions are stretched.
    Raises ValueError for other kinds of scaling."""
    theta, yarn = raw.get("rope_theta"), None
    for key in ("rope_scaling", "rope_parameters"):
        value = raw.get(key)
        if value is None:
            continue
        kind = value.get("rope_type", value.get("type", "default")) if isinstance(value, dict) else value
        if kind == "yarn" and may_stretch:
            yarn = read_yarn(value, f"{where}: {key}")
        elif kind != "default":
            types = " or 'yarn'" * may_stretch
            raise ValueError(f"{where}: {key} is {value!r}; expected null, or the rope_type 'default'{types}")
        theta = value.get("rope_theta") if theta is None else theta
    return family.positive_float({"rope_theta": theta}, "rope_theta", where), yarn
