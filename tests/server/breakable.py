"""A server for one test alone, around the fake engine, to break: and what to look at while it breaks."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import psutil

from llada_exp.jobs import ServerHandle, running_server
from tests.server.conftest import FAKE, say

CHAT = "/v1/chat/completions"


def processes(pid):
    """A server and all that it started."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def left_over(ended, within_s=20.0):
    _, alive = psutil.wait_procs(ended, timeout=within_s)
    return [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def worker_pid(http):
    return http.get("/batch/stats").json()["workers"][0]["pid"]


def wait_for(condition, within_s=20.0):
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.05)
    return False


@dataclass
class BreakableServer:
    """A server that the test may break. send: a request in the background."""

    handle: ServerHandle
    http: httpx.Client
    pool: ThreadPoolExecutor

    @property
    def pid(self):
        return self.handle.pid

    def stats(self):
        return self.http.get("/batch/stats").json()

    def engine(self, worker=0):
        return self.stats()["workers"][worker]["engine"]

    def send(self, text, **fields) -> Future[httpx.Response]:
        return self.pool.submit(post, self.http, text, **fields)

    def wait_processing(self, count):
        assert wait_for(lambda: self.stats()["currently_processing"] == count)

    def assert_nothing_left(self):
        """Neither rows nor waiting jobs, and every job that was taken has one outcome."""

        def clean():
            stats = self.stats()
            counts = stats["requests"]
            ended = counts["completed"] + counts["failed"] + counts["cancelled"]
            rows = sum(w["engine"].get("rows_in_flight", 0) for w in stats["workers"])
            jobs = stats["pending_requests"] + stats["currently_processing"] + stats["response_buffers"]
            return rows == jobs == 0 and ended == counts["submitted"]

        assert wait_for(clean), self.stats()

    def wait_end(self, within_s):
        return self.handle.process.wait(within_s)


@contextmanager
def breakable_server(*overrides, **kinds):
    """command: another server around another engine."""
    kinds = {"command": FAKE, "start_timeout_s": 120} | kinds
    with (
        running_server(overrides, **kinds) as handle,
        httpx.Client(base_url=handle.url, timeout=60) as http,
        ThreadPoolExecutor(16) as pool,
    ):
        yield BreakableServer(handle, http, pool)


def post(http, text, **fields):
    return http.post(CHAT, json=say(text, **fields))
