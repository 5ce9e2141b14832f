"""When is a request done, and with which tokens. Pure functions of its committed prefix.

A committed token never changes, and what stands before the first EOS cannot depend on what comes
after it is released: so finishing early gives exactly the text of decoding the whole canvas.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llada_exp.engine.request import Request
from llada_exp.rules import RULES
from llada_exp.types import FinishReason


def finished(request: Request, ends: Sequence[int]) -> tuple[int, FinishReason] | None:
    """(number of answer tokens, reason) once nothing can change them any more, else None."""
    visible, ended = visible_length(request, ends)
    if request.find_stop is not None:
        text_length = visible - 1 if ended else visible
        if (cut := request.find_stop(request.answer[:text_length].tolist())) is not None:
            return cut, "stop"
    at_block_start = request.block_step == 0 and not request.block_begun
    is_whole = request.prefix >= request.params.max_tokens and at_block_start
    if ended and (is_whole or _may_end(request, ends, at_block_start)):
        return visible, "stop"
    if is_whole and not ended:
        return request.params.max_tokens, "length"
    return None


def visible_length(request: Request, ends: Sequence[int]) -> tuple[int, bool]:
    """Length of the committed prefix up to `max_tokens` and through its first end id, and whether
    such an end is in it: one of `stop_token_ids`, or without `ignore_eos` of the model's `ends`."""
    visible = min(request.prefix, request.params.max_tokens)
    if not (ends := ends_of(request, ends)):
        return visible, False
    hits = np.flatnonzero(np.isin(request.answer[:visible], ends))
    return (int(hits[0]) + 1, True) if len(hits) else (visible, False)


def ends_of(request: Request, ends: Sequence[int]) -> list[int]:
    """Ids that end the answer. ends: the model's."""
    return [*request.params.stop_token_ids, *(() if request.params.ignore_eos else ends)]


def _may_end(request: Request, ends: Sequence[int], at_block_start: bool) -> bool:
    """Whether an answer that holds an end may end here, before its whole canvas is decoded."""
    params, stops = request.params, request.layout.visibility.stops
    if at_block_start:
        return params.early_eos or not RULES[params.rule].runs_on
    if stops == "on_commit" and not np.isin(request.last_tokens, ends_of(request, ends)).any():
        return False
    return params.early_eos
