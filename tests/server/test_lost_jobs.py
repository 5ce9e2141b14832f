"""Jobs that a worker took and never said a word of: lost where it died, not where it is busy."""

import asyncio

import pytest

from llada_exp.server.state import waiting as module
from tests.server.desk import JOB, played

LIVE, DEAD = 1, 9


@pytest.fixture(autouse=True)
def fast_watch(monkeypatch):
    monkeypatch.setattr(module, "WATCH_S", 0.01)
    monkeypatch.setattr(module, "LOST_S", 0.05)


def watched(play):
    async def run(desk):
        watch = asyncio.create_task(desk.waiting.watch())
        await play(desk)
        watch.cancel()

    played(run)


async def a_while():
    await asyncio.sleep(0.25)


def resubmitted(desk):
    return desk.waiting.counters["resubmitted"]


def test_a_job_that_waits_or_is_in_the_hands_of_a_live_worker_is_not_lost():
    """Prevents what there was: a worker that read a long prompt for two seconds got it a second time."""

    async def play(desk):
        desk.waiting.open([JOB, JOB])
        await a_while()
        desk.queue.get_nowait(LIVE)
        await a_while()
        assert resubmitted(desk) == 0
        assert desk.queue.qsize() == 1

    watched(play)


@pytest.mark.parametrize("taker", [DEAD, LIVE], ids=["dead as it took it", "dead later"])
def test_a_job_that_a_dead_worker_took_is_submitted_again_once(taker):
    async def play(desk):
        jobs = desk.waiting.open([JOB])
        desk.queue.get_nowait(taker)
        desk.alive.discard(taker)
        await a_while()
        assert (resubmitted(desk), desk.queue.qsize()) == (1, 1)
        uid = desk.queue.get_nowait(2)[0]
        desk.message(uid, "done", pid=2)
        assert (await jobs.next())[1]["kind"] == "done"
        await a_while()
        assert (resubmitted(desk), desk.waiting.num_open) == (1, 0)

    watched(play)


def test_a_lost_job_is_found_under_load_and_keeps_its_place():
    """The queue is never empty under load; and a job of many may wait while later requests are served."""

    async def play(desk):
        many = desk.waiting.open([JOB] * 5)
        desk.queue.get_nowait(DEAD)
        first, *left = many.uids
        later = desk.waiting.open([JOB, JOB])
        for uid in (left[0], later.uids[0]):
            assert desk.queue.get_nowait(LIVE)[0] == uid
            desk.message(uid, "admitted")
        await a_while()
        assert resubmitted(desk) == 1
        order = [desk.queue.get_nowait(LIVE)[0] for _ in range(desk.queue.qsize())]
        assert many.uids[0] != first
        assert [uid for uid in order if uid in many.uids] == [many.uids[0], *left[1:]]

    watched(play)


def test_the_last_words_of_a_dead_worker_answer_nobody():
    """They may lie on their way while the job is given to another: it is answered once, by one worker."""

    async def play(desk):
        jobs = desk.waiting.open([JOB])
        old = desk.queue.get_nowait(DEAD)[0]
        await a_while()
        desk.message(old, "admitted", pid=DEAD)
        desk.message(old, "piece", pid=DEAD, text="old")
        uid = desk.queue.get_nowait(LIVE)[0]
        desk.message(uid, "admitted")
        desk.message(uid, "done", text="new")
        assert [(await jobs.next())[1].get("text") for _ in range(2)] == [None, "new"]
        await a_while()
        assert desk.waiting.counters["failed"] == 0

    watched(play)


def test_a_job_that_ends_every_worker_that_begins_with_it_is_given_up():
    async def play(desk):
        jobs = desk.waiting.open([JOB])
        for _ in range(module.MAX_TRIES):
            while not desk.queue.qsize():
                await asyncio.sleep(0.01)
            desk.queue.get_nowait(DEAD)
        message = (await jobs.next())[1]
        assert (message["kind"], message["status"]) == ("failed", 503)
        assert (desk.queue.qsize(), desk.waiting.num_open) == (0, 0)

    watched(play)


def test_a_list_that_a_dead_worker_took_is_read_by_another():
    async def play(desk):
        group = desk.waiting.open_reading([JOB])
        prompts = desk.marks.prompts
        prompts.get_nowait(DEAD)
        while not prompts.qsize():
            await asyncio.sleep(0.01)
        desk.message(prompts.get_nowait(2)[0], "reading", pid=2)
        desk.alive.discard(2)
        while (message := (await group.next())[1])["kind"] == "reading":
            pass
        assert message["status"] == 503

    watched(play)
