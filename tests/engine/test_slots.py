"""K/V slots: rows in flight stand first, and a row's K/V follow it when it moves."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llada_exp.engine.slots import KVSlots
from tests.toys import toy_model

MODEL = toy_model()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 12)), max_size=30))
def test_rows_keep_their_own_tensors_and_stand_first(moves):
    """Each move takes a row's slot, or releases it if it has one."""
    slots = KVSlots(MODEL, num_slots=5, max_length=12)
    lengths: dict[int, int] = {}
    for row, length in moves:
        if row in lengths:
            slots.release(row)
            del lengths[row]
        else:
            place = slots.slot(row, length)
            for tensor in slots.tensors:
                tensor[:, place, :length] = row
            lengths[row] = length
        places = {r: slots.slot(r, n) for r, n in lengths.items()}
        assert sorted(places.values()) == list(range(len(slots)))
        for r, place in places.items():
            for tensor in slots.tensors:
                assert torch.all(tensor[:, place, : lengths[r]] == r)


def test_nothing_is_allocated_before_a_row_is_cached():
    # cache=none alone must not cost the K/V of a whole batch.
    slots = KVSlots(MODEL, num_slots=5, max_length=12)
    slots.release("never there")
    assert slots._kv is None
