"""What a request may share of its K/V, and when it goes on: requests and engine/prefixes.py, joined."""

from __future__ import annotations

from llada_exp.engine.kv import KVMemory
from llada_exp.engine.prefixes import NO_PREFIX, Prefix
from llada_exp.engine.request import Request

SHARED_KINDS = ("block_causal", "causal_context")
"""Of `models.base.Visibility`: a position of the prompt sees nothing beyond its block."""


def row_names(request: Request) -> list[tuple[str, int]]:
    """What the request's rows are called in the K/V memory."""
    return [(request.request_id, row) for row in range(request.params.num_rows)]


def prefix_of(request: Request) -> Prefix:
    """Whole blocks of the prompt that are computed before the first block is denoised; not that of the last
    position, where its row says the first token. Of a guided request none, for it has two rows."""
    visibility = request.layout.visibility
    if visibility.kind not in SHARED_KINDS or request.params.num_rows > 1:
        return NO_PREFIX
    stop = request.context_end - (visibility.context == "seeds")
    return Prefix.of(request.canvas[: max(0, stop)], request.layout.block_length)


def proceed(kv: KVMemory, request: Request) -> bool:
    """Whether the request's next pass may run: not while another makes what it shares. Moves its context on
    to what is there."""
    context = kv.prefixes.proceed(row_names(request)[0], request.context)
    if context is not None:
        request.context = context
    return context is not None


def complete(kv: KVMemory, request: Request) -> None:
    """Of a request whose pass has succeeded: what it shares is there as far as its context."""
    kv.prefixes.complete(row_names(request)[0], request.context)
