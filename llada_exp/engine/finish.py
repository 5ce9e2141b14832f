"""When is a request done, and with which tokens. Pure functions of its committed prefix.

A committed token never changes, and what stands before the first EOS cannot depend on what comes
after it is released: so finishing early gives exactly the text of decoding the whole canvas.
"""

from __future__ import annotations

from collections.abc import Sequence

from llada_exp.engine.request import Request
from llada_exp.rules import RULES
from llada_exp.types import DecodingParams, FinishReason


def finished(request: Request) -> tuple[int, FinishReason] | None:
    """(number of answer tokens, reason) once nothing can change them any more, else None."""
    visible, ended = visible_length(request)
    if request.find_stop is not None and visible > request.released:
        text_length = visible - 1 if ended else visible
        if (cut := request.find_stop(request.answer[:text_length].tolist())) is not None:
            return cut, "stop"
    is_full = request.prefix >= request.params.max_tokens
    if not ended and not is_full:
        return None
    at_block_start = request.block_step == 0 and not request.block_begun
    is_whole = is_full and at_block_start
    if ended and (is_whole or _may_end(request, at_block_start)):
        return visible, "stop"
    if is_whole and not ended:
        return request.params.max_tokens, "length"
    return None


def visible_length(request: Request) -> tuple[int, bool]:
    """Length of the committed prefix up to `max_tokens` and through its first end id, and whether such an end
    is in it."""
    visible, end = min(request.prefix, request.params.max_tokens), request.first_end
    return (visible, False) if end is None or end >= visible else (end + 1, True)


def ends_of(params: DecodingParams, ends: Sequence[int]) -> frozenset[int]:
    """Ids that end the answer: `stop_token_ids`, and without `ignore_eos` the model's `ends`."""
    return frozenset([*params.stop_token_ids, *(() if params.ignore_eos else ends)])


def _may_end(request: Request, at_block_start: bool) -> bool:
    """Whether an answer that holds an end may end here, before its whole canvas is decoded."""
    params, stops = request.params, request.layout.visibility.stops
    if at_block_start:
        return params.early_eos or not RULES[params.rule].runs_on
    if stops == "on_commit" and request.ends.isdisjoint(request.last_tokens.tolist()):
        return False
    return params.early_eos
