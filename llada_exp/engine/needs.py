"""What a request's next pass costs: the scheduler's view of it, in integers."""

from __future__ import annotations

from llada_exp.engine.request import Request
from llada_exp.engine.scheduler import Need, Phase


def need_of(request: Request) -> Need:
    """What the request's next pass costs."""
    row_pass = request.plan.row_pass
    first = request.block_step == 0 and request.layout.visibility.sees_suffix
    is_long = row_pass.stores and row_pass.num_positions > request.layout.block_length
    phase = Phase.REFRESH if row_pass.whole or first or is_long else Phase.BLOCK
    return Need(phase, row_pass.num_positions * request.params.num_rows)
