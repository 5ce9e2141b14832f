"""K/V slots: rows in flight stand first, and a row's K/V follow it when it moves."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llada_exp.engine.slots import KVSlots
from tests.toys import toy_model

MODEL = toy_model()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 12), st.integers(0, 2)), max_size=40))
def test_rows_keep_their_own_tensors_and_stand_first_by_rank(moves):
    """Each move takes a row's slot, or releases it if it has one."""
    slots = KVSlots(MODEL, num_slots=5, max_length=12)
    rows: dict[int, tuple[int, int]] = {}
    for row, length, rank in moves:
        if row in rows:
            slots.release(row)
            del rows[row]
        else:
            slots.take(row, rank)
            place = slots.use(row, length)
            for tensor in slots.tensors:
                tensor[:, place, :length] = row
            rows[row] = (length, rank)
        places = {r: slots.use(r, n) for r, (n, _) in rows.items()}
        assert sorted(places.values()) == list(range(len(slots)))
        by_place = sorted(rows, key=places.__getitem__)
        assert [rows[r][1] for r in by_place] == sorted(rank for _, rank in rows.values())
        for r, place in places.items():
            for tensor in slots.tensors:
                assert torch.all(tensor[:, place, : rows[r][0]] == r)


def test_nothing_is_allocated_before_a_row_is_cached():
    # cache=none alone must not cost the K/V of a whole batch.
    slots = KVSlots(MODEL, num_slots=5, max_length=12)
    slots.release("never there")
    assert slots._kv is None
