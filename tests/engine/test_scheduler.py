"""Scheduling is integers: these tests need no model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llada_exp.engine.scheduler import Scheduler


def test_admission_is_first_come_first_served_and_a_wide_request_is_not_overtaken():
    # Overtaking would starve a guided request (two rows) under a stream of single rows.
    scheduler = Scheduler(num_rows=2, max_positions=100)
    for name, rows in (("a", 1), ("b", 2), ("c", 1)):
        scheduler.add(name, rows)
    assert scheduler.admit() == ["a"]
    assert scheduler.admit() == []
    scheduler.remove("a")
    assert scheduler.admit() == ["b"]
    scheduler.remove("b")
    assert scheduler.admit() == ["c"]


def test_a_request_wider_than_the_batch_is_refused_and_not_queued_for_ever():
    with pytest.raises(ValueError, match="needs 2 rows; batch_size is 1"):
        Scheduler(num_rows=1, max_positions=100).add("guided", 2)


def test_removing_a_waiting_request_frees_its_place():
    scheduler = Scheduler(num_rows=1, max_positions=10)
    scheduler.add("a", 1)
    scheduler.remove("a")
    assert scheduler.free_rows == 1
    assert scheduler.admit() == []


def test_a_row_longer_than_the_budget_runs_alone_instead_of_never():
    scheduler = Scheduler(num_rows=2, max_positions=10)
    for name in "ab":
        scheduler.add(name, 1)
    scheduler.admit()
    assert scheduler.choose({"a": 50, "b": 5}) == ["a"]
    assert scheduler.choose({"a": 50, "b": 5}) == ["b"]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(1, 100))
def test_the_budget_holds_and_nobody_starves(costs, budget):
    scheduler = Scheduler(num_rows=len(costs), max_positions=budget)
    for i in range(len(costs)):
        scheduler.add(str(i), 1)
    scheduler.admit()
    cost_of = {str(i): cost for i, cost in enumerate(costs)}
    last_run = dict.fromkeys(cost_of, 0)
    for step in range(1, 4 * len(costs) + 1):
        chosen = scheduler.choose(cost_of)
        assert chosen
        assert len(chosen) == 1 or sum(cost_of[name] for name in chosen) <= budget
        for name in chosen:
            last_run[name] = step
        assert all(step - last <= len(costs) for last in last_run.values())
