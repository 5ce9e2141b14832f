"""The API side's books, without processes: who waits, whose worker died, what was swallowed."""

import asyncio
import pickle

import pytest

from llada_exp.server.routes.answer import EventStream
from llada_exp.server.state import waiting as module
from tests.server.desk import JOB, played


@pytest.fixture
def fast_watch(monkeypatch):
    monkeypatch.setattr(module, "WATCH_S", 0.01)
    monkeypatch.setattr(module, "LOST_S", 0.05)


def test_messages_come_with_the_index_of_their_job():
    async def play(desk):
        jobs = desk.waiting.open([JOB, JOB])
        desk.message(jobs.uids[1], "admitted")
        assert await jobs.next() == (1, {"kind": "admitted", "uid": jobs.uids[1], "pid": 1})
        assert (desk.waiting.num_pending, desk.waiting.num_processing) == (1, 1)

    played(play)


def test_a_closed_jobs_leaves_nothing_behind_and_cancels_what_runs():
    """LitServe's own buffer leaks an entry per request."""

    async def play(desk):
        jobs = desk.waiting.open([JOB, JOB, JOB])
        desk.queue.get_nowait(), desk.queue.get_nowait()
        desk.message(jobs.uids[0], "done")
        await jobs.next()
        jobs.close()
        assert desk.waiting.num_open == 0
        assert desk.marks.cancelled == [jobs.uids[1]]
        assert desk.queue.qsize() == 0, (
            "what no worker has is taken back, and no worker's turn is spent on it"
        )
        assert (desk.waiting.num_pending, desk.waiting.num_processing) == (0, 0)
        jobs.close()
        assert desk.waiting.counters["cancelled"] == 2

    played(play)


def test_a_stream_whose_client_left_before_it_began_is_closed():
    """Its events are then never asked for: a `finally` inside them would not run, and the job leak."""

    async def play(desk):
        async def events():
            yield "data: never\n\n"

        async def receive():
            return {"type": "http.disconnect"}

        async def send(message):
            await asyncio.sleep(3600)

        jobs = desk.waiting.open([JOB])
        desk.queue.get_nowait()
        await EventStream(events(), jobs.close)({"type": "http"}, receive, send)
        assert desk.waiting.num_open == 0
        assert desk.marks.cancelled == jobs.uids

    played(play)


def test_an_answer_that_is_there_survives_its_workers_death(fast_watch):
    """A slow reader's answer lies there unread when the worker dies."""

    async def play(desk):
        watch = asyncio.create_task(desk.waiting.watch())
        jobs = desk.waiting.open([JOB])
        desk.message(jobs.uids[0], "done", text="whole")
        desk.alive = set()
        await asyncio.sleep(0.1)
        assert (await jobs.next())[1]["text"] == "whole"
        watch.cancel()

    played(play)


def test_a_job_that_two_workers_took_is_answered_by_the_first_alone():
    async def play(desk):
        jobs = desk.waiting.open([JOB])
        (uid,) = jobs.uids
        desk.message(uid, "admitted", pid=1)
        desk.message(uid, "piece", pid=2, text="wrong")
        desk.message(uid, "piece", pid=1, text="right")
        assert [(await jobs.next())[1].get("text") for _ in range(2)] == [None, "right"]

    played(play)


def test_the_death_of_a_worker_fails_its_jobs_and_no_others(fast_watch):
    async def play(desk):
        watch = asyncio.create_task(desk.waiting.watch())
        theirs, others = desk.waiting.open([JOB]), desk.waiting.open([JOB])
        desk.message(theirs.uids[0], "admitted", pid=1)
        desk.message(others.uids[0], "admitted", pid=2)
        await theirs.next()
        await others.next()
        desk.alive = {2}
        _, failed = await theirs.next()
        assert (failed["kind"], failed["status"]) == ("failed", 503)
        assert desk.waiting.num_open == 1
        watch.cancel()

    played(play)


def test_jobs_that_cannot_be_queued_leave_nothing_behind():
    """The queue's process may be gone: the client gets an error, and the books stay clean."""

    async def play(desk):
        def put(*item):
            raise BrokenPipeError

        desk.queue.put_all = put
        with pytest.raises(ConnectionError):
            desk.waiting.open([JOB, JOB])
        assert (desk.waiting.num_open, desk.waiting.num_pending, desk.waiting.num_unanswered) == (0, 0, 0)

    played(play)


def test_a_job_can_be_pickled():
    assert pickle.loads(pickle.dumps(JOB)) == JOB


def test_a_list_is_read_before_it_is_decoded_and_counts_as_no_answer():
    async def play(desk):
        group = desk.waiting.open_reading([JOB, JOB])
        uid, _, jobs = desk.marks.prompts.get_nowait()
        assert jobs == [JOB, JOB]
        assert desk.queue.qsize() == 0
        desk.message(uid, "reading")
        assert (desk.waiting.num_pending, desk.waiting.num_processing) == (0, 0)
        desk.message(uid, "read", prompts=[[1], [2]])
        assert [(await group.next())[1]["kind"] for _ in range(2)] == ["reading", "read"]
        group.close()
        assert desk.waiting.num_open == desk.waiting.num_unanswered == 0
        assert not any(desk.waiting.counters.values())
        assert desk.marks.cancelled == []

    played(play)


def test_who_gives_up_everything_has_workers_drop_it_too():
    """Prevents five seconds at the end of each drain: the word to stop waited for rows that nobody wanted."""

    async def play(desk):
        group = desk.waiting.open([JOB, JOB])
        reading = desk.waiting.open_reading([JOB])
        running = group.uids[0]
        assert desk.queue.get_nowait()[0] == running
        desk.message(running, "admitted")
        desk.waiting.fail_all("the server is stopping")
        assert desk.marks.cancelled == [running]
        assert desk.queue.qsize() == desk.marks.prompts.qsize() == 0
        for jobs in (group, reading):
            while (message := (await jobs.next())[1])["kind"] == "admitted":
                pass
            assert message["status"] == 503
            jobs.close()
        assert desk.waiting.counters["failed"] == 2
        assert desk.waiting.counters["cancelled"] == 0

    played(play)
