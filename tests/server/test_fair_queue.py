"""Turns between requests: nobody starves, nobody is served twice before another is served once."""

import threading
from queue import Empty

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llada_exp.server.processes.fair_queue import FairQueue
from llada_exp.server.processes.messages import STOP
from llada_exp.server.processes.start_stop import start_manager
from tests.server.breakable import wait_for

TEXT = "/v1/completions"
puts_and_gets = st.lists(st.one_of(st.none(), st.tuples(st.integers(0, 4), st.integers(1, 30))), max_size=60)


@settings(max_examples=50, deadline=None)
@given(puts_and_gets)
def test_each_of_the_requests_that_wait_is_served_every_kth_time(steps):
    """Against a plain count, for any mix of arrivals (request, number of jobs) and admissions (None)."""
    queue, waiting, served_since = FairQueue(), {}, {}
    numbers = dict.fromkeys(range(5), 0)
    for step in [*steps, *[None] * 400]:
        if step is not None:
            request, count = step
            for _ in range(count):
                queue.put((f"{request}-{numbers[request]}", 0.0, None), str(request))
                waiting.setdefault(request, []).append(numbers[request])
                numbers[request] += 1
            served_since.setdefault(request, dict.fromkeys(range(5), 0))
        elif waiting:
            request, number = map(int, queue.get_nowait()[0].split("-"))
            assert number == waiting[request].pop(0), "a request's own jobs keep their order"
            for other in waiting.keys() - {request}:
                served_since[other][request] += 1
                assert served_since[other][request] <= 1, "nobody twice while another waits"
            served_since[request] = dict.fromkeys(range(5), 0)
            if not waiting[request]:
                del waiting[request], served_since[request]
    assert not waiting
    assert queue.qsize() == 0


def test_a_request_of_a_thousand_answers_delays_another_by_one_job():
    queue = FairQueue()
    for i in range(1200):
        queue.put((f"many-{i}", 0.0, None), "many")
    for i in range(3):
        queue.put((f"few-{i}", 0.0, None), "few")
    order = [queue.get_nowait()[0] for _ in range(7)]
    assert order == ["many-0", "few-0", "many-1", "few-1", "many-2", "few-2", "many-3"]


def test_what_is_no_job_comes_first():
    queue = FairQueue()
    queue.put(("a", 0.0, None), "x")
    queue.put(STOP)
    assert queue.qsize() == 1
    assert queue.get() == STOP


def test_a_requests_jobs_can_be_taken_back_and_looked_for():
    queue = FairQueue()
    for uid in "abc":
        queue.put((uid, 0.0, None), "x")
    queue.put(("d", 0.0, None), "y")
    assert queue.get_nowait(taker=7)[0] == "a"
    assert queue.takers(["a", "b", "d", "never"]) == {"a": 7, "never": 0}
    queue.put(("a", 0.0, None), "x", True)
    assert queue.discard("x") == ["a", "b", "c"]
    assert queue.discard("x") == []
    assert queue.qsize() == 1


def test_who_took_a_job_is_known_until_the_job_is_settled():
    """And no longer: a server answers millions."""
    queue = FairQueue()
    queue.put_all([(uid, 0.0, None) for uid in "abcd"], "x")
    assert [queue.get(taker=taker)[0] for taker in (1, 2, 3)] == ["a", "b", "c"]
    assert not queue.are_settled(3), "a and b, say, are not"
    assert queue.takers(["a", "b", "d"]) == {"a": 1, "b": 2}
    assert queue.takers(["c", "d"]) == {"c": 0}, "c was"
    assert queue.are_settled(1), "d waits, and nobody waits for more"
    assert queue.takers(["a", "d"]) == {"a": 0}


def test_a_getter_sleeps_until_a_job_comes_or_its_time_is_over():
    queue = FairQueue()
    for nothing in (queue.get_nowait, lambda: queue.get(timeout=0.01)):
        with pytest.raises(Empty):
            nothing()
    threading.Timer(0.05, queue.put, [("a", 0.0, None), "x"]).start()
    assert queue.get(timeout=10)[0] == "a"


def test_it_works_through_its_manager():
    manager = start_manager()
    try:
        queue = manager.FairQueue()
        queue.put(("a", 0.0, {"prompt": "x"}), "x")
        assert queue.qsize() == 1
        assert queue.takers(["a", "b"]) == {"b": 0}
        assert queue.are_settled(1)
        assert queue.get(timeout=5) == ("a", 0.0, {"prompt": "x"})
        with pytest.raises(Empty):
            queue.get(timeout=0.01)
    finally:
        manager.shutdown()


def test_a_large_request_does_not_hold_up_a_small_one(fake_http):
    """One client's list of prompts delayed another's chat until all of it was admitted: here, for ever."""
    large = {"prompt": ["slow"] * 96 + ["hang"] * 4, "max_tokens": 16, "stream": True}
    with fake_http.stream("POST", TEXT, json=large) as answer:
        next(answer.iter_lines())
        small = fake_http.post(TEXT, json={"prompt": "hello", "max_tokens": 16}).json()
    assert small["choices"][0]["text"].startswith("hello @")
    assert wait_for(lambda: stats(fake_http)["rows_in_flight"] == 0)


def test_a_large_request_has_all_its_answers_in_its_order(fake_http):
    prompts = [f"number {i}" for i in range(100)]
    answer = fake_http.post(TEXT, json={"prompt": prompts, "max_tokens": 16}).json()
    assert [choice["text"].partition(" @")[0] for choice in answer["choices"]] == prompts


def stats(http):
    return http.get("/batch/stats").json()["workers"][0]["engine"]
