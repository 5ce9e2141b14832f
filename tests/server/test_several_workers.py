"""Several workers: a burst is shared, and each loads its own model in its turn."""

from itertools import pairwise

import pytest

from llada_exp.server.processes.shared_state import FULL, SharedState
from llada_exp.server.processes.start_stop import start_manager
from tests.server.breakable import breakable_server, post


@pytest.fixture(scope="module")
def manager():
    started = start_manager()
    yield started
    started.shutdown()


def test_a_job_is_left_to_a_worker_that_has_fewer(manager):
    shared = SharedState(manager, 3)
    shared.beat(0, 2)
    assert shared.may_take(0, 2), "the others do not run yet"
    shared.beat(1, 1)
    assert not shared.may_take(0, 2)
    assert shared.may_take(1, 1)
    shared.beat(1, 2)
    assert shared.may_take(0, 2), "a tie"
    shared.beat(2, 0)
    assert not shared.may_take(0, 2)
    shared.leave(2)
    assert shared.may_take(0, 2), "nobody waits for the dead"
    shared.beat(1, FULL)
    assert shared.may_take(0, 5), "a full one takes none, however few it has"


def test_nobody_waits_for_a_worker_in_a_long_step(manager, monkeypatch):
    shared = SharedState(manager, 2)
    shared.beat(0, 3)
    shared.beat(1, 0)
    assert not shared.may_take(0, 3)
    monkeypatch.setattr("llada_exp.server.processes.shared_state._FRESH_S", -1.0)
    assert shared.may_take(0, 3)


def peak(worker):
    return max(map(int, worker["engine"]["batch_size_histogram"]))


@pytest.mark.parametrize(
    "devices",
    [["workers=2"], ["device=cuda", "devices=2"], ["device=cuda", "devices=2", "workers=2"]],
    ids=["two on the CPU", "two devices", "two on each of two devices"],
)
def test_a_burst_is_shared_fairly(devices):
    """One worker with 16 free rows would swallow it all, and the others' devices stand idle."""
    with breakable_server("batch_size=16", *devices) as server:
        workers = server.stats()["workers"]
        sent = [server.send("slow " + "text " * 20) for _ in range(16)]
        assert [job.result().status_code for job in sent] == [200] * 16
        share = 16 / len(workers)
        peaks = [peak(worker) for worker in server.stats()["workers"]]
        assert sum(peaks) >= 14
        assert all(share - 2 <= p <= share + 2 for p in peaks), peaks


def test_each_worker_has_a_device_and_loads_its_model_once_and_in_its_turn():
    """Together they would add up in memory what loading needs beside the model."""
    with breakable_server("device=cuda", "devices=3", env={"LLADA_FAKE_SETUP": "0.5"}) as server:
        workers = server.stats()["workers"]
        assert [w["engine"]["device"] for w in workers] == ["cuda:0", "cuda:1", "cuda:2"]
        assert server.http.get("/health").json()["device"] == "cuda:0,cuda:1,cuda:2"
        assert len({w["pid"] for w in workers}) == 3
        times = [w["engine"]["loaded"] for w in workers]
        assert all(end <= begin for (_, end), (begin, _) in pairwise(times)), times
        assert post(server.http, "x").status_code == 200
