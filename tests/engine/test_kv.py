"""K/V memory: a row's K/V stay its own, are read as a view or gathered with the same bits, and take what the
row is long."""

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llada_exp.engine import EngineCore
from llada_exp.engine.kv import KVMemory, KVReading
from llada_exp.engine.pages import PAGE
from llada_exp.fields import ContextLengthError
from llada_exp.types import DecodingParams
from tests.toys import BOS, toy_model

MODEL = toy_model()
CPU = torch.device("cpu")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 70)), max_size=40))
def test_rows_keep_their_own_tensors_and_take_what_they_are_long(moves):
    """Each move reserves for a row, or releases it. Prevents K/V of another row, wherever pages lie."""
    kv, rows = KVMemory(MODEL, 12 * PAGE), {}
    for name, length in moves:
        if name in rows:
            kv.release(name)
            del rows[name]
        elif kv.reserve({name: length}):
            rows[name] = length
            slot = kv.slot(name)
            for tensor in kv.tensors:
                assert not tensor[:, slot.target(slice(0, length), CPU)].any(), "of the row before"
                tensor[:, slot.target(slice(0, length), CPU)] = name + 1
        else:
            assert -(-length // PAGE) * PAGE > kv.stats()["kv_positions_free"]
        used = sum(-(-n // PAGE) * PAGE for n in rows.values())
        assert kv.stats()["kv_positions_free"] == kv.num_positions - used == 12 * PAGE - used
        for row, n in rows.items():
            reading = KVReading.of([kv.slot(row)], n, CPU)
            assert torch.all(reading(kv.tensors[0][1]) == row + 1)


def test_rows_at_even_distances_are_read_without_a_copy_and_others_with_the_same_values():
    kv = KVMemory(MODEL, 12 * PAGE)
    for name, length in (("a", 20), ("b", 30), ("c", 25), ("d", 5), ("e", 32)):
        assert kv.reserve({name: length})
        kv.slot(name)
    layer = kv.tensors[1][0]
    layer.copy_(torch.randn(layer.shape))
    even = KVReading.of([kv.slot(n) for n in "abc"], 30, CPU)(layer)
    assert even.untyped_storage().data_ptr() == layer.untyped_storage().data_ptr()
    uneven = KVReading.of([kv.slot(n) for n in "abce"], 30, CPU)(layer)
    for i, name in enumerate("abce"):
        start = kv.slot(name).start
        assert torch.equal(uneven[i], layer[start : start + 30])
    assert torch.equal(even, uneven[:3])
    for name in "bd":
        kv.release(name)
    assert kv.reserve({"apart": 6 * PAGE})
    slot = kv.slot("apart")
    assert slot.index is not None
    assert torch.equal(KVReading.of([slot], 90, CPU)(layer)[0], layer[slot.index[:90]])
    beyond = KVReading.of([slot, kv.slot("e")], 90, CPU)(layer)[1]
    assert torch.equal(beyond[31:], layer[kv.slot("e").start + 31].expand(59, -1, -1)), "its own last one"


def test_all_that_rows_left_is_wiped_for_a_kernel_that_multiplies_with_other_places():
    """Prevents a NaN of a row that failed in the answers of those that come after it."""
    kv = KVMemory(MODEL, 4 * PAGE)
    assert kv.reserve({"fails": 20, "goes on": 20})
    for name, value in (("fails", torch.nan), ("goes on", 1.0)):
        start = kv.slot(name).start
        for tensor in kv.tensors:
            tensor[:, start : start + 20] = value
    kv.release("fails")
    kv.wipe()
    keys, values = kv.tensors
    assert keys.isfinite().all()
    assert values.sum() == 20 * values[:, 0].numel(), "what a row holds is left"


def test_nothing_is_allocated_before_a_row_is_cached():
    # cache=none alone must not cost the K/V of a whole batch.
    kv = KVMemory(MODEL, 5 * PAGE)
    kv.release("never there")
    assert kv.reserve({"waits": 12})
    assert kv._kv is None


def run(engine, jobs):
    names = [engine.add_request(prompt, params) for prompt, params in jobs]
    outputs, most = {}, 0
    while engine.has_work():
        outputs.update({p.request_id: p.output.token_ids for p in engine.step() if p.output})
        most = max(most, engine.stats()["rows_in_flight"])
    return [outputs[name] for name in names], most


@pytest.mark.parametrize("exact", [True, False])
def test_eight_times_as_many_rows_in_the_same_bytes(exact):
    """At a mean of 350 positions of 4,096; slots of the longest row held four."""
    model = toy_model(max_length=4096)
    engine = EngineCore(model, batch_size=64, kv_positions=4 * 4096, exact=exact, max_positions=2**20)
    bytes_of_four_slots = (
        4 * 4096 * 2 * model.shape.n_layers * model.shape.n_kv_heads * model.shape.head_dim * 4
    )
    draw = np.random.default_rng(0)
    lengths = draw.integers(100, 581, 48)
    lengths[-1] += 48 * 350 - lengths.sum()
    assert lengths.mean() == 350
    for length in lengths:
        engine.add_request(
            [BOS] * (length - 20), DecodingParams(max_tokens=20, block_length=20, cache="dual")
        )
    with torch.inference_mode():
        engine.scheduler.admit(lambda name: engine.decoder.reserve(engine._requests[name]))
        keys, values = engine.decoder.kv.tensors
    assert keys.nbytes + values.nbytes == bytes_of_four_slots
    assert engine.stats()["rows_in_flight"] >= 8 * 4


@settings(max_examples=15, deadline=None)
@given(st.data(), st.booleans())
def test_answers_are_the_same_in_a_memory_for_few_rows(data, guided):
    """Rows whose pages lie apart, and rows that wait for memory, give the bits of rows with all of it."""
    jobs = [
        (
            [BOS, *range(data.draw(st.integers(0, 59)))],
            DecodingParams(
                max_tokens=data.draw(st.integers(1, 130)),
                block_length=data.draw(st.sampled_from([4, 16, 64])),
                cache=data.draw(st.sampled_from(["dual", "prefix", "none"])),
                cfg_scale=1.0 if guided and i % 3 == 0 else 0.0,
                rule="threshold",
                threshold=0.1,
                steps_per_block=None,
            ),
        )
        for i in range(data.draw(st.integers(1, 9)))
    ]
    roomy = run(EngineCore(MODEL, batch_size=16), jobs)[0]
    engine = EngineCore(MODEL, batch_size=16, kv_positions=2 * 192 + 64)
    assert run(engine, jobs)[0] == roomy
    assert engine.stats()["kv_positions_free"] == engine.stats()["kv_positions"]


def test_a_request_longer_than_the_whole_memory_is_refused_and_one_as_long_is_decoded():
    engine = EngineCore(MODEL, batch_size=4, kv_positions=130)
    fits = DecodingParams(max_tokens=28, block_length=28, cache="dual")
    assert engine.longest_prompt(fits) == 100
    assert len(run(engine, [([BOS] * 100, fits)])[0]) == 1
    with pytest.raises(ContextLengthError, match="maximum context length is 128 tokens"):
        engine.add_request([BOS] * 101, fits)
    engine.add_request([BOS] * 101, DecodingParams(max_tokens=28, block_length=28, cache="none"))
    with pytest.raises(ContextLengthError, match="maximum context length is 64 tokens"):
        engine.add_request([BOS] * 100, DecodingParams(max_tokens=28, cache="dual", cfg_scale=1.0))
    with pytest.raises(ValueError, match="kv_positions is 63; expected an integer >= 64"):
        EngineCore(MODEL, kv_positions=63)


def test_on_a_cpu_the_pool_takes_memory_where_rows_touch_it():
    # torch.zeros wrote all of it: every row that might come, at its longest, before the first one did.
    kv, process = KVMemory(MODEL, 1 << 20), psutil.Process()
    before = process.memory_info().rss
    keys, values = kv.tensors
    size = keys.nbytes + values.nbytes
    assert size > 200e6
    assert kv.reserve({"row": 1000})
    for tensor in (keys, values):
        tensor[:, kv.slot("row").target(slice(0, 1000), CPU)] = 1
        assert tensor.data_ptr() % 64 == 0
    assert process.memory_info().rss - before < size / 10
    assert not keys[:, -1].any()
