"""The API side's books, for a test that plays the workers."""

import asyncio

from llada_exp.server.processes.fair_queue import FairQueue
from llada_exp.server.state.waiting import WaitingRequests
from llada_exp.types import DecodingParams

JOB = {"kind": "text", "prompt": "x", "params": DecodingParams(), "stream": False}


class Marks:
    def __init__(self):
        self.cancelled = []
        self.prompts = FairQueue()

    def cancel(self, uids):
        self.cancelled += uids

    def forget(self, before):
        pass


class Desk:
    """The books, the queue, and a hand to play the workers."""

    def __init__(self):
        self.queue = FairQueue()
        self.marks = Marks()
        self.alive = {1, 2}
        self.waiting = WaitingRequests(self.queue, self.marks, lambda: self.alive)

    def message(self, uid, kind, pid=1, **more):
        self.waiting.deliver({"kind": kind, "uid": uid, "pid": pid, **more})


def played(play):
    async def run():
        return await asyncio.wait_for(play(Desk()), 10)

    return asyncio.run(run())
