"""The memory plan: arithmetic that has to be an upper bound, and a refusal before an out-of-memory."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from llada_exp.engine import EngineCore, memory
from llada_exp.engine.attention import _mask
from llada_exp.engine.memory import MemoryPlan, table
from llada_exp.models.base import FULL, ModelShape, Visibility
from llada_exp.types import DecodingParams
from tests.toys import toy_grouped, toy_model

LLADA_8B = ModelShape(
    d_model=4096, n_layers=32, n_heads=32, n_kv_heads=32, head_dim=128, mlp_hidden=12288, vocab_size=126464,
    max_length=4096, num_parameters=8_015_581_184,
)  # fmt: skip


def plan(total_gib, batch_size=16, **fields):
    total = None if total_gib is None else int(total_gib * 2**30)
    own = {
        "shape": fields.pop("shape", LLADA_8B),
        "params": DecodingParams(cache="dual", block_length=32),
        "device_total": total,
    }
    sizes = {"max_length": 1280, "max_positions": 8192, "dtype": torch.bfloat16, **fields}
    return MemoryPlan(batch_size=batch_size, **own, **sizes)


def kv_bytes(model, **options):
    """Of the plan, and what an engine holds."""
    sizes = {"max_length": 40, **options}
    own = plan(None, 3, shape=model.shape, dtype=model.dtype, **sizes)
    keys, values = EngineCore(model, batch_size=3, **sizes).decoder.kv.tensors
    return own.kv_bytes(3), keys.nbytes + values.nbytes


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("kv_positions", [None, 100])
def test_the_kv_memory_takes_what_the_plan_says(exact, kv_positions):
    planned, held = kv_bytes(toy_model(), exact=exact, kv_positions=kv_positions)
    assert planned - 4 * 2**10 * 4 < held <= planned


def test_the_8b_model_on_an_80_gib_device():
    own = plan(80)
    assert own.weights == 2 * 8_015_581_184
    assert own.kv_per_row == 2 * 32 * 1280 * 4096 * 2
    assert own.max_batch > 16
    own.check()
    assert own.total(own.max_batch) <= 80 * 2**30 < own.total(2 * own.max_batch)


def test_captured_steps_are_counted_where_steps_are_captured(monkeypatch):
    """Prevents a plan that fits and a device that is full once steps are captured."""
    before = {exact: plan(80, exact=exact).activations for exact in (True, False)}
    size = memory.CAPTURED[-1]
    monkeypatch.setattr(memory, "CAPTURED", (2 * size,))
    more = {exact: plan(80, exact=exact).activations - before[exact] for exact in (True, False)}
    logits, hidden = 2 * LLADA_8B.vocab_size * 4, 3 * LLADA_8B.mlp_hidden * 2
    assert more[True] == 0
    assert more[False] > size * (logits + hidden)


def test_more_than_fits_is_refused_with_what_would():
    most = plan(24).max_batch
    with pytest.raises(ValueError, match=f"batch_size is {most + 1}; .* at most {most} fit in 24.0 GiB"):
        plan(24, batch_size=most + 1).check()
    assert plan(8).max_batch == 0, "the weights alone do not fit"


def test_an_unknown_device_is_planned_but_not_refused():
    own = plan(None, batch_size=4000)
    own.check()
    assert own.max_batch is None
    assert "unknown" in table(own)


def test_longer_rows_wider_batches_and_wider_dtypes_take_more():
    base = plan(80)
    assert plan(80, max_length=4096).max_batch < base.max_batch
    assert plan(80, dtype=torch.float32).max_batch < base.max_batch
    assert base.total(17) > base.total(16)


def test_the_table_names_what_does_not_fit():
    text = table(plan(24))
    assert "largest batch_size" in text
    rows = [line for line in text.splitlines() if line.startswith("64 ")]
    assert rows[0].endswith("does not fit")


@pytest.mark.parametrize("total", [None, 16, 80])
def test_the_table_has_the_sizes_that_people_choose_from(total):
    """4, 8, 16 and 32 rows, also where the device's memory cannot be told."""
    told = {int(line.split()[0]) for line in table(plan(total)).splitlines() if line[0].isdigit()}
    assert told >= {4, 8, 16, 32}


def test_fewer_key_heads_take_less_of_a_slot_and_wider_heads_more_of_a_step():
    """Prevents a plan of d_model where heads are H * D wide, and key heads fewer."""
    planned, held = kv_bytes(toy_grouped())
    assert planned == held
    few = replace(LLADA_8B, n_kv_heads=8)
    assert plan(80, shape=few).kv_per_row == plan(80).kv_per_row / 4
    assert plan(80, shape=few).max_batch > plan(80).max_batch
    wide = replace(LLADA_8B, head_dim=256)
    assert plan(80, shape=wide).activations > plan(80).activations


@pytest.mark.parametrize("visibility", [Visibility("block_causal", 8), Visibility("causal_context", 8)])
def test_masks_of_positions_that_see_differently_are_counted(visibility):
    """Prevents an out-of-memory of long rows: a mask is a row's length squared."""
    segment = SimpleNamespace(keys=512, limits=visibility.limits(0, 512, 504, 8, 504))
    mask = _mask([segment], 512, torch.device("cpu"), torch.bfloat16)
    sizes = {"max_length": 512, "max_positions": 512}
    full, other = plan(None, 1, **sizes), plan(None, 1, visibility=visibility, **sizes)
    assert other.activations - full.activations >= mask.nbytes == 512 * 512 * 2
    assert plan(None, 1).activations == plan(None, 1, visibility=FULL).activations


def test_the_plan_says_how_many_requests_of_a_mix_fit():
    """In the K/V memory as it is, and on the device with the settings that it names."""
    own = plan(80, max_length=4096, kv_positions=16384, mix=(150, 200), exact=False)
    text = table(own)
    assert "150 + 200 tokens: 358 positions on average" in text
    assert f"requests at once     {16384 // 358:9d}" in text
    words = text.split("on this device: ")[1].split()[:2]
    batch_size, kv_positions = (int(word.split("=")[1]) for word in words)
    advised = replace(own, batch_size=batch_size, kv_positions=kv_positions)
    advised.check()
    more = replace(own, batch_size=batch_size + 1, kv_positions=kv_positions + 358)
    assert not more.fits
    slots = plan(80, max_length=4096, exact=False).max_batch
    assert batch_size > 4 * slots
    assert {int(line.split()[0]) for line in text.splitlines() if line[0].isdigit()} >= {4, 8, 16, 32}


def test_a_smaller_kv_memory_makes_room_for_rows_and_is_named_where_it_does_not_fit():
    assert plan(24, max_length=4096, kv_positions=4096).max_batch > plan(24, max_length=4096).max_batch
    with pytest.raises(ValueError, match="or kv_positions, 1000000"):
        plan(24, kv_positions=1_000_000).check()
