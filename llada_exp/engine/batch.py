"""Rows in flight -> tensors of one step, packed without masks; the only place that knows padding.

Tokens of all rows stand one after the other; token rows and head rows are padded to multiples of
16, because small matrix products on a CPU run other kernels and give other bits: with this, and
attention over each row's own keys, a row's logits are bit-equal to running alone (measured in
tests/engine/test_invariance.py).

Letters: M packed tokens (padded), m positions of the current blocks whose logits are computed (the
masked ones, unless a rule revises), R the same and those of blind twins, n requests, B block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from llada_exp.caches import Pass
from llada_exp.engine.kv import Slot
from llada_exp.engine.pass_plan import PassPlan
from llada_exp.engine.request import Request
from llada_exp.engine.sampling import rank_uniforms, sampling_of
from llada_exp.models.base import SpecialIds
from llada_exp.rules.base import RowState
from llada_exp.rules.candidates import PositionParams

PAD = 16


@dataclass(frozen=True)
class Segment:
    """One row's tokens among the packed ones.

    start, stop: packed [start, stop). first: row position of the first of them.
    keys:  the row's first so many positions are seen. whole: they are all in this segment.
    slot:  where the row's K/V are kept, or None.
    limits: int64 [stop - start], where a token sees fewer than `keys`: how many; None: all see `keys`.
    """

    start: int
    stop: int
    first: int = 0
    keys: int = 0
    whole: bool = True
    slot: Slot | None = None
    limits: np.ndarray | None = None

    @property
    def positions(self) -> slice:
        """Of the row."""
        return slice(self.first, self.first + self.stop - self.start)

    @property
    def num_pairs(self) -> int:
        """(query, key) pairs of one attention layer."""
        return (self.stop - self.start) * self.keys if self.limits is None else int(self.limits.sum())


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance of some requests of a step (arXiv 2207.12598).

    rows:   int64 [m padded], which of the R rows of logits are the requests' own.
    guided: int64 [g], which of those are guided; scale float32 [g]; blind int64 [g], the rows of
            their twins that do not see the prompt.
    """

    rows: Tensor
    guided: Tensor
    scale: Tensor
    blind: Tensor


@dataclass(frozen=True)
class Revision:
    """What stands at the positions whose logits are computed: ids int64 [m], masked bool [m]."""

    ids: Tensor
    masked: Tensor


@dataclass
class Batch:
    """One step's tensors. requests, plans: of those whose pass gives logits; segments: of all.

    ids, positions: int64 [M], on the host still. segments: one per row, guided requests have two.
    logit_rows: int64 [R padded], too, packed indices whose logits are computed, row after row.
    place: int64 [2, m], (request, position in block) of each of them but the twins'.
    revision: of a step in which some rule revises.
    """

    requests: list[Request]
    plans: list[PassPlan]
    ids: np.ndarray
    positions: np.ndarray
    segments: list[Segment]
    logit_rows: np.ndarray
    guidance: Guidance | None
    place: Tensor
    num_logit_rows: int
    num_tokens: int
    sampling: PositionParams
    rank_uniform: Tensor | None
    rows: list[RowState]
    revision: Revision | None


def round_up(count: int, multiple: int = PAD) -> int:
    return -(-count // multiple) * multiple


@dataclass(frozen=True)
class Work:
    """One request's pass in this step; `slots` are those of its rows, empty where nothing is kept."""

    request: Request
    plan: PassPlan
    slots: tuple[Slot, ...] = ()


def build(work: Sequence[Work], special: SpecialIds, device: torch.device, exact: bool = True) -> Batch:
    """Pack the requests' rows for one step. exact: tokens are padded to a multiple of PAD, and a pass that
    stores is laid out block by block, so that its bits do not depend on how many blocks it holds."""
    pack = _Packer(special, exact)
    for item in work:
        pack.add(item)
    length = round_up(pack.offset) if exact else pack.offset
    packed = np.empty((2, length), dtype=np.int64)
    packed[0, pack.offset :], packed[1, pack.offset :] = special.mask, 0
    np.concatenate(pack.ids, out=packed[0, : pack.offset])
    for s in pack.segments:
        packed[1, s.start : s.stop] = np.arange(s.first, s.positions.stop)
    speaking = [item for item in work if item.plan.gives_logits]
    requests, plans = [item.request for item in speaking], [item.plan for item in speaking]
    return Batch(
        requests=requests,
        plans=plans,
        ids=packed[0],
        positions=packed[1],
        segments=pack.segments,
        logit_rows=_padded(pack.logit_rows),
        guidance=pack.guidance(device),
        place=torch.from_numpy(_places(plans)).to(device),
        num_logit_rows=pack.num_unguided,
        num_tokens=pack.offset,
        sampling=sampling_of(requests, plans, round_up(pack.num_unguided), device),
        rank_uniform=rank_uniforms(requests, plans, device),
        rows=[_row_state(r, plan) for r, plan in zip(requests, plans, strict=True)],
        revision=_revision(requests, plans, device),
    )


def _row_state(request: Request, plan: PassPlan) -> RowState:
    layout, params = request.layout, request.params
    return RowState(
        params=params,
        block_masks=layout.num_open(request.block),
        block_step=request.block_step,
        num_blocks=layout.num_blocks,
        block_length=plan.end - plan.start,
        steps=None if params.steps is None else layout.steps_per_block(params.steps),
        most_steps=params.max_tokens if layout.visibility.caps_steps else None,
        full_steps=request.full_steps,
    )


def _revision(
    requests: Sequence[Request], plans: Sequence[PassPlan], device: torch.device
) -> Revision | None:
    if not any(r.revises for r in requests):
        return None
    pairs = list(zip(requests, plans, strict=True))
    ids = np.concatenate([r.answer[plan.logit_positions] for r, plan in pairs])
    masked = np.concatenate([r.masked[plan.logit_positions] for r, plan in pairs])
    return Revision(torch.from_numpy(ids).to(device), torch.from_numpy(masked).to(device))


class _Packer:
    """Lays rows one after the other; a guided request's blind twin follows it."""

    def __init__(self, special: SpecialIds, exact: bool) -> None:
        self.mask, self.exact = special.mask, exact
        self.ids: list[np.ndarray] = []
        self.segments: list[Segment] = []
        self.logit_rows: list[np.ndarray] = []
        self.unguided: list[np.ndarray] = []
        self.guided: list[np.ndarray] = []
        self.scales: list[np.ndarray] = []
        self.blind: list[np.ndarray] = []
        self.offset = 0
        self.num_logit_rows = 0
        self.num_unguided = 0

    def add(self, work: Work) -> None:
        request, plan = work.request, work.plan
        positions = plan.logit_positions + (request.prompt_length - plan.row_pass.start)
        speaking = positions
        if plan.shift:
            speaking = np.maximum(positions - plan.shift, 0)  # row 0 speaks of position 0, too
        slots: list[Slot | None] = list(work.slots) or [None] * request.params.num_rows
        self.unguided.append(self._row(work, request.canvas, slots[0], speaking))
        if request.params.cfg_scale > 0:
            canvas = request.canvas.copy()
            canvas[: request.prompt_length] = self.mask
            self.blind.append(self._row(work, canvas, slots[1], speaking))
            self.guided.append(self.num_unguided + np.arange(len(positions)))
            self.scales.append(np.full(len(positions), request.params.cfg_scale, dtype=np.float32))
        self.num_unguided += len(positions)

    def _row(self, work: Work, canvas: np.ndarray, slot: Slot | None, speaking: np.ndarray) -> np.ndarray:
        """Lay one row; its places among the rows of logits. speaking: of the pass, what logits are of."""
        row_pass = work.plan.row_pass
        start, stop = self.offset, self.offset + row_pass.num_positions
        self.ids.append(canvas[row_pass.start : row_pass.stop])
        self.logit_rows.append(start + speaking)
        for part in _parts(work.request, row_pass) if self.exact else [row_pass]:
            first, limits = start + part.start - row_pass.start, _limits(work.request, part)
            is_whole = part.whole and part is row_pass
            self.segments.append(
                Segment(first, first + part.num_positions, part.start, part.keys, is_whole, slot, limits)
            )
        places = self.num_logit_rows + np.arange(len(speaking))
        self.offset, self.num_logit_rows = stop, self.num_logit_rows + len(speaking)
        return places

    def guidance(self, device: torch.device) -> Guidance | None:
        if not self.guided:
            return None
        guided, scale, blind = (
            torch.from_numpy(np.concatenate(parts)).to(device)
            for parts in (self.guided, self.scales, self.blind)
        )
        rows = torch.from_numpy(_padded(self.unguided)).to(device)
        return Guidance(rows, guided, scale, blind)


def _parts(request: Request, row_pass: Pass) -> list[Pass]:
    """A pass that stores, block by block; any other as it is."""
    length = request.layout.block_length
    if not (row_pass.stores and row_pass.keep) or request.layout.visibility.kind == "block_context":
        return [row_pass]
    starts = range(row_pass.start, row_pass.stop, length)
    stops = [min(start + length, row_pass.stop) for start in starts]
    return [replace(row_pass, start=a, stop=b, keys=b) for a, b in zip(starts, stops, strict=True)]


def _limits(request: Request, row_pass: Pass) -> np.ndarray | None:
    """None also where every position of the pass sees all its keys."""
    current = row_pass.stop if row_pass.stores else request.layout.bounds(request.block)[0]
    limits = request.layout.limits(row_pass.start, row_pass.stop, current)
    if limits is None or (limits >= row_pass.keys).all():
        return None
    return np.minimum(limits, row_pass.keys)


def _padded(indices: list[np.ndarray]) -> np.ndarray:
    """Padded by repeating the last one."""
    count = sum(map(len, indices))
    flat = np.empty(round_up(count), dtype=np.int64)
    np.concatenate(indices, out=flat[:count])
    flat[count:] = flat[count - 1] if count else 0
    return flat


def _places(plans: Sequence[PassPlan]) -> np.ndarray:
    places = np.empty((2, sum(len(plan.logit_positions) for plan in plans)), dtype=np.int64)
    stop = 0
    for row, plan in enumerate(plans):
        start, stop = stop, stop + len(plan.logit_positions)
        places[0, start:stop] = row
        np.subtract(plan.logit_positions, plan.start, out=places[1, start:stop])
    return places
