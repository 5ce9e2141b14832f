"""When a worker is started anew, how late, and when no more: without processes, on a clock of our own."""

import errno

import pytest

from llada_exp.server.processes import worker_watch as module
from llada_exp.server.processes.shared_state import FAILED, READY, STARTING
from llada_exp.server.processes.worker_watch import MAX_DEATHS, STABLE_S, StartError, WorkerWatch
from llada_exp.server.state.status import overall

TICK = 0.5


class Process:
    def __init__(self, pid):
        self.pid = pid
        self.exitcode = None

    def is_alive(self):
        return self.exitcode is None


class Shared:
    def __init__(self):
        self.states = {}
        self.up = set()

    def has_beaten(self, worker_id):
        return worker_id in self.up

    def leave(self, worker_id):
        self.up.discard(worker_id)

    def silent_s(self, worker_id):
        return 0.0


class House:
    """Workers, and the watch over them; started: when a worker of an id was started."""

    def __init__(self, monkeypatch, num_workers=1):
        self.now, self.pid, self.refuses = 1000.0, 100, None
        self.started = []
        self.shared = Shared()
        self.watch = WorkerWatch([self.process() for _ in range(num_workers)], self.launch, self.shared, 0)
        for worker_id in range(num_workers):
            self.come_up(worker_id)
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)

    def process(self):
        self.pid += 1
        return Process(self.pid)

    def launch(self, worker_id):
        self.started.append(self.now)
        if self.refuses:
            raise self.refuses
        return self.process()

    def come_up(self, worker_id=0):
        self.shared.up.add(worker_id)
        self.shared.states[worker_id] = {
            "state": READY,
            "pid": self.watch.processes[worker_id].pid,
            "beat": 0,
        }

    def die(self, worker_id=0, **state):
        self.watch.processes[worker_id].exitcode = -9
        self.shared.states[worker_id] |= state

    def wait(self, seconds):
        until = self.now + seconds
        while self.now < until:
            self.watch.check(was_ready=True)
            self.now += TICK

    def word(self):
        return overall(self.watch.states(), self.watch.num_workers, draining=False)


def test_one_that_decoded_for_long_is_started_anew_at_once_however_often_it_dies(monkeypatch):
    house = House(monkeypatch)
    for times in range(1, 3 * MAX_DEATHS):
        house.wait(STABLE_S + 1)
        house.die()
        house.wait(1)
        assert len(house.started) == times
        house.come_up()


@pytest.mark.parametrize("comes_up", [True, False])
def test_one_that_dies_again_and_again_is_started_later_each_time_and_then_no_more(monkeypatch, comes_up):
    """Prevents the loop for ever of a model that loads slowly and dies: ten in a minute never came."""
    house = House(monkeypatch)
    house.wait(STABLE_S + 1)

    def die_until_the_end():
        for _ in range(2 * MAX_DEATHS):
            house.die()
            count = len(house.started)
            while len(house.started) == count:
                house.wait(TICK)
            if comes_up:
                house.come_up()
            house.wait(STABLE_S / 2 if comes_up else 100)  # to load

    with pytest.raises(StartError, match=r"no worker is left; worker 0: died .* for the 10th time in a row"):
        die_until_the_end()
    delays = [b - a for a, b in zip(house.started, house.started[1:], strict=False)]
    assert len(house.started) == MAX_DEATHS - 1
    waits = [delay - (STABLE_S / 2 if comes_up else 100) for delay in delays]
    assert waits == sorted(waits)
    assert 30 <= waits[-1] <= 32


def test_no_descriptor_at_the_moment_of_a_start_is_tried_again(monkeypatch):
    """Prevents the traceback of an OSError in which the whole server ended."""
    house = House(monkeypatch)
    house.wait(STABLE_S + 1)
    house.refuses = OSError(errno.EMFILE, "Too many open files")
    house.die()
    house.wait(9)
    assert 3 <= len(house.started) < MAX_DEATHS
    state = house.watch.states()[0]
    assert (state["state"], house.word()) == (STARTING, "starting")
    assert "Too many open files" in state["error"]
    house.refuses = None
    house.wait(20)
    house.come_up()
    house.wait(1)
    assert house.word() == "ready"
    assert not house.watch.processes[0].exitcode


def test_each_worker_has_a_count_of_its_own_and_the_rest_goes_on(monkeypatch):
    house = House(monkeypatch, num_workers=2)
    house.wait(STABLE_S + 1)
    for _ in range(MAX_DEATHS):
        house.die(0)
        house.wait(40)
    assert len(house.started) == MAX_DEATHS - 1
    assert house.word() == "degraded"
    assert house.shared.states[0]["state"] == FAILED
    house.die(1)
    house.wait(2)
    assert len(house.started) == MAX_DEATHS
    house.come_up(1)
    house.wait(1)
    assert house.word() == "degraded", "the other is back, the first is not tried again"


@pytest.mark.parametrize(("is_final", "count"), [(True, 0), (False, 2)])
def test_a_model_that_is_broken_is_not_tried_again_but_one_without_room_is(monkeypatch, is_final, count):
    house = House(monkeypatch, num_workers=2)
    house.wait(STABLE_S + 1)
    house.die(0, state=FAILED, error="CUDA out of memory", is_final=is_final)
    house.wait(0.6)
    if not is_final:
        house.die(0, state=FAILED, error="CUDA out of memory", is_final=is_final)
    house.wait(5)
    assert len(house.started) == count
    assert house.word() == "degraded"
