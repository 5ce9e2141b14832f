"""Which ids have a meaning of their own: from config.json, generation_config.json and the tokenizer.

What ends an answer is what any of the three says, beginning with config.json; a family adds its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from llada_exp.checkpoints.common import Config, read_json
from llada_exp.models.base import SpecialIds
from llada_exp.text import Tokenizer

GENERATION = "generation_config.json"
_EOS = "eos_token_id"


def special_ids(
    config: Config, tokenizer: Tokenizer, folders: Iterable[Path | None], where: str
) -> SpecialIds:
    """Special ids of a checkpoint.

    folders: where generation_config.json may lie; the first that has one counts.

    The ends are, without duplicates, the eos_token_id (one or several) of config.json and of
    generation_config.json, the tokenizer's EOS, the special token with which the chat template closes an
    assistant's turn, and what the family says. Raises ValueError naming `where` for ids out of range, or
    that contradict each other.
    """
    vocab, mask = config.architecture.vocab_size, _mask(config, tokenizer, where)
    if tokenizer.num_tokens > vocab:
        raise ValueError(
            f"{where}: the tokenizer has {tokenizer.num_tokens} tokens and the model {vocab} "
            "embeddings; expected a tokenizer that belongs to the model"
        )
    ends = tuple(dict.fromkeys(_ends(config, tokenizer, folders, where)))
    if not ends:
        raise ValueError(
            f"{where}: {_EOS} is in neither config.json nor {GENERATION}, and the tokenizer has no EOS; "
            "expected an id that ends an answer"
        )
    if mask in ends:
        raise ValueError(f"{where}: mask_token_id is {mask}, which ends an answer (EOS or end of turn)")
    if mask == tokenizer.bos_id:
        raise ValueError(f"{where}: mask_token_id is {mask}, which is the tokenizer's BOS")
    ids = SpecialIds(mask=mask, ends=ends, bos=tokenizer.bos_id, num_emittable=tokenizer.num_tokens)
    if any(i >= vocab for i in (*ids.ends, ids.bos or 0)):
        raise ValueError(f"{where}: special ids {ids} lie beyond the model's {vocab} embeddings")
    return ids


def _mask(config: Config, tokenizer: Tokenizer, where: str) -> int:
    """Its id as config.json or a setting says, else that of the family's token."""
    mask, token = config.architecture.mask_token_id, config.family.mask_token
    if mask is None and token is not None:
        mask = tokenizer.token_id(token)
    if mask is None:
        raise ValueError(
            f"{where}: mask_token_id is not in config.json, and the tokenizer has no {token!r}; expected it "
            "at load, as model.mask_token_id=ID"
        )
    return mask


def _ends(config: Config, tokenizer: Tokenizer, folders: Iterable[Path | None], where: str) -> Iterator[int]:
    yield from _ids(config.raw.get(_EOS), f"{where}: config.json")
    generation = next((f / GENERATION for f in folders if f and (f / GENERATION).is_file()), None)
    if generation is not None:
        yield from _ids(read_json(generation).get(_EOS), str(generation))
    of_family = [tokenizer.token_id(token) for token in config.family.end_tokens]
    yield from (i for i in (tokenizer.eos_id, tokenizer.turn_end_id, *of_family) if i is not None)


def _ids(value: Any, where: str) -> list[int]:
    """eos_token_id as Hugging Face writes it: null, an id or a list of ids. Raises ValueError."""
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if any(isinstance(i, bool) or not isinstance(i, int) or i < 0 for i in ids):
        raise ValueError(f"{where}: {_EOS} is {value!r}; expected an id or a list of ids")
    return ids
