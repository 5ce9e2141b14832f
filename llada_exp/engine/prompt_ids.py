"""A prompt's token ids, looked through before a row is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llada_exp.fields import TokenError


def checked_ids(prompt_ids: Sequence[Any], vocab: int, mask: int) -> np.ndarray:
    """int64 [P]. Raises ValueError for an empty prompt, and TokenError for the first entry that is the mask
    or no id below `vocab`, whatever it is."""
    try:
        prompt = np.asarray(prompt_ids)
    except ValueError:  # lists of several lengths
        raise ValueError("the prompt is no list of token ids") from None
    if prompt.ndim != 1 or len(prompt) == 0:
        raise ValueError("the prompt is empty; expected at least one token")
    if prompt.dtype.kind not in "iu" or prompt.min() < 0 or prompt.max() >= vocab:
        for position, token in enumerate(prompt_ids):  # also what is larger than any integer of numpy's
            if isinstance(token, bool) or not isinstance(token, int | np.integer) or not 0 <= token < vocab:
                raise TokenError(position, token, f"a token id from 0 to {vocab - 1}")
    if (hits := np.flatnonzero(prompt == mask)).size:
        raise TokenError(int(hits[0]), mask, "no mask token, which only the decoder may place")
    return prompt.astype(np.int64)
