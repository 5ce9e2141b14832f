"""Pages of the K/V memory: each has one owner, a row has one run where there is one, none is lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llada_exp.engine.pages import PagePool, is_run


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 40), st.lists(st.tuples(st.integers(0, 9), st.integers(1, 12)), max_size=60))
def test_pages_have_one_owner_and_a_row_gets_a_run_wherever_there_is_one(size, moves):
    """Each move gives a row pages, or takes back what it has."""
    pool, rows = PagePool(size), {}
    for name, count in moves:
        if name in rows:
            pool.give_back(rows.pop(name))
        elif count <= pool.num_free:
            free = set(range(size)).difference(*rows.values())
            has_run = any(set(range(page, page + count)) <= free for page in free)
            rows[name] = pool.take(count)
            assert set(rows[name]) <= free
            assert len(rows[name]) == count
            assert is_run(rows[name]) == has_run
        assert pool.num_free == size - sum(map(len, rows.values()))
    for pages in rows.values():
        pool.give_back(pages)
    assert is_run(pool.take(size)), "free runs grow together again"


def test_rows_of_one_length_fill_each_others_gaps():
    """So that those in flight lie at even distances, and attention reads them as one view."""
    pool = PagePool(100)
    rows = [pool.take(6) for _ in range(8)]
    for i in (2, 5, 3):
        pool.give_back(rows[i])
        pool.take(3) if i == 3 else None
    for i in (2, 5):
        rows[i] = pool.take(6)
    assert {pages[0] % 3 for pages in rows} == {0}
    assert all(map(is_run, rows))


def test_a_page_given_back_twice_is_a_fault():
    pool = PagePool(4)
    pages = pool.take(2)
    pool.give_back(pages)
    with pytest.raises(AssertionError):
        pool.give_back(pages)
