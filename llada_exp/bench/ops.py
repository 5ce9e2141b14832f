"""How many operations a step dispatches: what its host launches, whatever the device.

    python -m llada_exp.bench.engine --count-ops --models tiny --batch-sizes 1 16 64

Counted are operations that are not views, as torch dispatches them in inference mode: attention, a norm and a
padding are one each, which on a GPU are a kernel and on a CPU several. Inside the layers they are counted for
one layer, since what is dispatched there is dispatched as often as there are layers. Knows no device and no
time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from llada_exp.engine import EngineCore
from llada_exp.models.base import Attend, Model
from llada_exp.models.packed import Layer, PackedModel
from llada_exp.tables import Table, TableColumn
from llada_exp.types import DecodingParams

PROMPT, CANVAS, BLOCK = 64, 64, 32
"""Tokens of the longest row of a counted step; the others' prompts are up to 15 tokens shorter."""


@dataclass(frozen=True)
class StepOps:
    """Operations of one step by name. layer: of its first layer; outside: of none."""

    layer: Counter[str]
    outside: Counter[str]


class _Ops(TorchDispatchMode):
    """Counts by where they stand: number of the layer, None outside."""

    def __init__(self) -> None:
        super().__init__()
        self.place: int | None = None
        self.counts: dict[int | None, Counter[str]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not _is_view(func):
            self.counts.setdefault(self.place, Counter())[func._schema.name] += 1
        return func(*args, **(kwargs or {}))

    @contextmanager
    def at(self, place: int) -> Iterator[None]:
        self.place = place
        yield
        self.place = None


def _is_view(func: Any) -> bool:
    """Whether an output is an input under another shape."""
    aliases = [returned.alias_info for returned in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


@dataclass(frozen=True)
class _Counted:
    """A layer (`models.packed.Layer`) whose operations are told apart."""

    layer: Layer
    ops: _Ops

    def __call__(self, x: Tensor, at: Any, number: int, attend: Attend, rows: Tensor | None) -> Tensor:
        with self.ops.at(number):
            return self.layer(x, at, number, attend, rows)


@dataclass(frozen=True)
class OpsRow:
    """What a step of so many rows dispatches. step: block, where each row decodes a block over kept K/V;
    mixed, where half of them forward all of their row. exact: as `EngineCore` has it."""

    model: str
    exact: bool
    step: str
    num_rows: int
    ops: StepOps


COLUMNS = (
    TableColumn("model", lambda row: row.model, left=True),
    TableColumn("exact", lambda row: str(row.exact).lower(), left=True),
    TableColumn("step", lambda row: row.step, left=True),
    TableColumn("rows", lambda row: str(row.num_rows)),
    TableColumn("ops/layer", lambda row: str(row.ops.layer.total())),
    TableColumn("other ops", lambda row: str(row.ops.outside.total())),
)


def step_ops(model: Model, num_rows: int, *, exact: bool, mixed: bool) -> StepOps:
    """Of one step; see `OpsRow`. model: a PackedModel."""
    assert isinstance(model, PackedModel)
    ops = _Ops()
    counted = replace(model, layers=[_Counted(layer, ops) for layer in model.layers])
    params = DecodingParams(
        max_tokens=CANVAS,
        block_length=BLOCK,
        cache="dual" if model.visibility.sees_suffix else "prefix",
        ignore_eos=True,
    )
    longest = PROMPT + CANVAS
    engine = EngineCore(
        counted,
        batch_size=num_rows,
        max_length=longest,
        max_positions=num_rows * longest,
        exact=exact,
        share_prefixes=False,
    )
    first = num_rows // 2 if mixed else num_rows
    prompts = [[0] * (PROMPT - 5 * (i % 4)) for i in range(num_rows)]
    for prompt in prompts[:first]:
        engine.add_request(prompt, params)
    while first and not engine.stats()["num_nfe"]:  # the prompts of a family by block come first
        engine.step()
    for prompt in prompts[first:]:
        engine.add_request(prompt, params)
    with ops:
        engine.step()
    return StepOps(layer=ops.counts[0], outside=ops.counts.get(None, Counter()))


def ops_table(model: Model, name: str, rows: Sequence[int]) -> str:
    """Of both paths and both steps at each number of rows."""
    return Table(
        COLUMNS,
        [
            OpsRow(name, exact, step, n, step_ops(model, n, exact=exact, mixed=step == "mixed"))
            for exact in (True, False)
            for step in ("block", "mixed")
            for n in rows
        ],
    ).text()
