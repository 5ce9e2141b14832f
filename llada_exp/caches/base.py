"""What a cache policy answers: which positions a pass forwards, and whose K/V it keeps.

Integers only. The tensors are in engine/kv.py, the attention over them in engine/attention.py.
All positions are row positions: 0 is the first prompt token. docs/extending.md writes a policy.

Letters: P prompt length, G canvas, B block length.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from llada_exp.types import DecodingParams


@dataclass(frozen=True)
class Cursor:
    """Where a row stands: its block's positions [block_start, block_end) of [0, length), and how many passes
    the block has had.

    sees_suffix: whether a block sees what stands beyond it. If not, K/V before the current block are final
                 once their own block was forwarded in its last state: `context` of them are.
    context_end: so many must be before the block is denoised. owns_pass: a finished block has a pass of its
                 own for that, whether its K/V are kept or not (models/base.py, Visibility.context).
    chunk:       positions that one such pass forwards at most.
    """

    prompt_length: int
    length: int
    block: int
    block_start: int
    block_end: int
    block_step: int
    sees_suffix: bool
    context: int
    context_end: int
    owns_pass: bool
    chunk: int
    params: DecodingParams

    @property
    def visible(self) -> int:
        """Row positions that take part at all: the whole row, or up to `suffix_window` positions
        beyond the block (DPad, arXiv 2508.14148), or none beyond it (`canvas = grow`)."""
        if not self.sees_suffix or self.params.canvas == "grow":
            return self.block_end
        window = self.params.suffix_window
        return self.length if window is None else min(self.length, self.block_end + window)


@dataclass(frozen=True)
class Pass:
    """Forward row positions [start, stop); they see keys of [0, keys).

    Keys outside [start, stop) come from what earlier passes kept; inside, they are fresh.
    keep: whether this pass's K/V are written to the row's slot.
    stores: whether it is no step of denoising: it forwards finished positions alone.
    """

    start: int
    stop: int
    keys: int
    keep: bool
    stores: bool = False

    @property
    def num_positions(self) -> int:
        return self.stop - self.start

    @property
    def whole(self) -> bool:
        """Sees nothing that an earlier pass kept."""
        return self.start == 0 and self.stop == self.keys


WITHOUT_SUFFIX = ("block_causal", "causal_context", "block_context")
"""Kinds of `models.base.Visibility` where blocks see nothing beyond themselves: K/V of what is finished are
final there."""


@dataclass(frozen=True)
class Policy:
    """A cache policy: a file of this folder exports one as `POLICY`, under a name of `types.CACHES`.

    next_pass: what a row's next pass forwards, by its cursor alone. The current block is always among it, and
               every key that it sees outside was kept by an earlier pass.
    keeps:     whether any of its passes keeps K/V: if not, its rows need no memory for them on the exact
               path. (A device's path reads all keys from that memory, and writes those of every pass there.)
    exact_for: kinds of `models.base.Visibility` for which answers are those of `none`. A model whose blocks
               see nothing beyond themselves takes such policies only.
    """

    next_pass: Callable[[Cursor], Pass]
    exact_for: Collection[str] = ()
    keeps: bool = True


def refresh(cursor: Cursor) -> Pass:
    """The pass at a block's start, by the row's `refresh` policy; the first block takes it whole."""
    params, visible = cursor.params, cursor.visible
    start, stop = 0, visible
    if cursor.block > 0:
        if params.refresh == "window":
            start = max(0, cursor.block_start - params.refresh_window)
            if params.suffix_window is None:  # else the window has moved over positions never seen
                stop = min(visible, cursor.block_end + params.refresh_window)
        elif params.refresh == "prompt_every" and cursor.block % params.refresh_interval:
            start = cursor.prompt_length
    return Pass(start, stop, keys=visible, keep=True)


def final(cursor: Cursor) -> Pass:
    """Where blocks see nothing beyond themselves: finished positions whose K/V are not kept yet, in passes of
    their own as far as `context_end`, else together with the block. Exact."""
    if cursor.context < cursor.context_end:
        stop = min(cursor.context + cursor.chunk, cursor.context_end)
        return Pass(cursor.context, stop, keys=stop, keep=True, stores=True)
    return Pass(min(cursor.context, cursor.block_start), cursor.block_end, keys=cursor.block_end, keep=True)
