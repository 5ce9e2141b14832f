"""Scheduling is integers: these tests need no model."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llada_exp.engine.budget import step_positions
from llada_exp.engine.pages import PagePool
from llada_exp.engine.scheduler import PATIENCE, Need, Phase, Scheduler


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


def test_short_requests_never_starve_a_long_one_of_memory():
    """The first in line is waited for, and nobody behind it is admitted before."""
    scheduler, pool, pages = Scheduler(num_rows=8, max_positions=100), PagePool(10), {}
    needs = {"a": 6, "b": 3, "long": 10, "c": 1, "d": 1}

    def reserve(name):
        if needs[name] > pool.num_free:
            return False
        pages[name] = pool.take(needs[name])
        return True

    def leave(name):
        scheduler.remove(name)
        pool.give_back(pages.pop(name))

    for name in needs:
        scheduler.add(name, 1)
    assert scheduler.admit(reserve) == ["a", "b"]
    assert scheduler.free_rows == 0, "a request more would wait behind the long one"
    leave("a")
    assert scheduler.admit(reserve) == []
    leave("b")
    assert scheduler.admit(reserve) == ["long"]
    assert scheduler.admit(reserve) == []
    scheduler.remove("c")
    scheduler.remove("d")
    assert scheduler.free_rows == 7, "who waited for memory is gone"


def test_a_request_wider_than_the_batch_is_refused_and_not_queued_for_ever():
    with pytest.raises(ValueError, match="needs 2 rows; batch_size is 1"):
        Scheduler(num_rows=1, max_positions=100).add("guided", 2)


def test_removing_a_waiting_request_frees_its_place():
    scheduler = Scheduler(num_rows=1, max_positions=10)
    scheduler.add("a", 1)
    scheduler.remove("a")
    assert scheduler.free_rows == 1
    assert scheduler.admit() == []


def whole(positions):
    return Need(Phase.REFRESH, positions)


def block(positions):
    return Need(Phase.BLOCK, positions)


def running(count, max_positions, scheduling="continuous"):
    scheduler = Scheduler(count, max_positions, scheduling)
    for i in range(count):
        scheduler.add(str(i), 1)
    scheduler.admit()
    return scheduler


def test_a_row_longer_than_the_budget_runs_alone_instead_of_never():
    scheduler = running(2, max_positions=10)
    needs = {"0": whole(50), "1": whole(5)}
    assert scheduler.choose(needs) == ["0"]
    assert scheduler.choose(needs) == ["1"]


def test_blocks_run_together_while_refreshes_are_staggered():
    # Every refresh of a burst at once would stall the block passes of all other rows.
    scheduler = running(4, max_positions=20)
    needs = {"0": whole(12), "1": whole(12), "2": block(4), "3": block(4)}
    assert scheduler.choose(needs) == ["0", "2", "3"]
    assert scheduler.choose(needs) == ["1", "2", "3"]


def test_a_refresh_that_never_fits_beside_the_blocks_still_has_its_turn():
    scheduler = running(3, max_positions=10)
    needs = {"0": whole(8), "1": block(4), "2": block(4)}
    turns = [scheduler.choose(needs) for _ in range(PATIENCE + 1)]
    assert turns[:-1] == [["1", "2"]] * PATIENCE
    assert turns[-1] == ["0"]


def test_lockstep_admits_nobody_until_all_have_left():
    scheduler = Scheduler(2, 10, "lockstep")
    for name in "abc":
        scheduler.add(name, 1)
    assert scheduler.admit() == ["a", "b"]
    assert scheduler.choose({"a": whole(50), "b": block(5)}) == ["a", "b"]
    scheduler.remove("a")
    assert scheduler.admit() == []
    assert scheduler.free_rows == 0
    scheduler.remove("b")
    assert scheduler.admit() == ["c"]


needs_of = st.lists(st.builds(Need, st.sampled_from(Phase), st.integers(1, 60)), min_size=1, max_size=12)


@given(needs_of, st.integers(1, 100))
def test_the_budget_holds_and_nobody_starves(needs, budget):
    scheduler = running(len(needs), budget)
    by_name = {str(i): need for i, need in enumerate(needs)}
    last_run = dict.fromkeys(by_name, 0)
    for step in range(1, 6 * len(needs) + 1):
        chosen = scheduler.choose(by_name)
        assert chosen
        assert len(chosen) == 1 or sum(by_name[name].positions for name in chosen) <= budget
        for name in chosen:
            last_run[name] = step
        assert all(step - last <= PATIENCE + len(needs) for last in last_run.values())


def test_a_cpu_takes_smaller_steps_where_nobody_says():
    """A large step's memory is mapped anew in every operation there; who names a budget gets it anywhere."""
    assert step_positions(None, torch.device("cpu")) < step_positions(None, torch.device("cuda", 1))
    assert {step_positions(7, torch.device(kind)) for kind in ("cpu", "cuda")} == {7}
