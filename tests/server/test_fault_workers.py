"""Workers that die, hang, fail or run out of memory: what every client in flight gets, and what is left.

`ready_s`, how long it took until the server was ready again, is recorded in the report of the tests
(`--junit-xml`), and judged by nobody: it depends on the machine.
"""

import json
import os
import signal
import sys
import time

import psutil
import pytest

from tests.server.breakable import CHAT, breakable_server, left_over, post, processes, wait_for, worker_pid
from tests.server.conftest import REFERENCE, say

TIGHT = (sys.executable, "-m", "tests.server.tight_serve")


def text(answer):
    return answer.json()["choices"][0]["message"]["content"]


def record_ready(server, record_property):
    """Wait until the server is ready again."""
    start = time.monotonic()
    assert wait_for(lambda: server.http.get("/health").json()["status"] == "ready", 60)
    record_property("ready_s", round(time.monotonic() - start, 2))


def test_kill_of_a_busy_worker_fails_its_own_jobs_and_the_queued_ones_are_answered(record_property):
    with breakable_server("batch_size=2") as server:
        taken = [server.send("hang"), server.send("hang", stream=True)]
        server.wait_processing(2)
        queued = [server.send(f"queued {i}", seed=0) for i in range(3)]
        assert wait_for(lambda: server.stats()["pending_requests"] == 3)
        os.kill(worker_pid(server.http), signal.SIGKILL)
        answers = [w.result() for w in taken]
        assert [a.status_code for a in answers] == [503, 503]
        for answer in answers:
            assert answer.headers["retry-after"]
            assert "died" in answer.json()["error"]["message"]
        record_ready(server, record_property)
        assert [text(w.result()) for w in queued] == [f"queued {i} @0" for i in range(3)]
        server.assert_nothing_left()


def test_kill_of_a_worker_amid_a_stream_ends_it_in_an_error_event():
    with breakable_server("batch_size=2") as server:
        body = say("slow " + "text " * 100, stream=True)
        with server.http.stream("POST", CHAT, json=body) as answer:
            lines = (line for line in answer.iter_lines() if line)
            next(lines)
            os.kill(worker_pid(server.http), signal.SIGKILL)
            *_, last = lines
        assert "died" in json.loads(last.removeprefix("data: "))["error"]["message"]
        server.assert_nothing_left()


def test_kill_of_an_idle_worker_costs_nobody_an_answer(record_property):
    with breakable_server("batch_size=2") as server:
        os.kill(worker_pid(server.http), signal.SIGKILL)
        sent = [server.send(f"text {i}", seed=0) for i in range(6)]
        assert [text(w.result()) for w in sent] == [f"text {i} @0" for i in range(6)]
        record_ready(server, record_property)
        server.assert_nothing_left()


@pytest.mark.parametrize("how", ["in a step", "stopped"])
def test_a_worker_that_hangs_is_killed_and_replaced(how, record_property):
    """A device that never answers: nobody may wait for ever."""
    with breakable_server("batch_size=2", "server.hang_seconds=2") as server:
        pid = worker_pid(server.http)
        waiting = [server.send("freeze" if how == "in a step" else "hang", stream=s) for s in (True, False)]
        server.wait_processing(2)
        if how == "stopped":
            os.kill(pid, signal.SIGSTOP)
        answers = [w.result() for w in waiting]
        assert [a.status_code for a in answers] == [503, 503]
        record_ready(server, record_property)
        assert worker_pid(server.http) != pid
        assert not psutil.pid_exists(pid)
        assert "has been silent for" in server.handle.log.read_text()
        assert post(server.http, "after").status_code == 200
        server.assert_nothing_left()


def test_a_worker_that_waits_for_work_or_company_does_not_hang():
    with breakable_server("max_wait_time=3", "server.hang_seconds=1.5") as server:
        pid = worker_pid(server.http)
        assert post(server.http, "x").status_code == 200
        time.sleep(2)
        assert worker_pid(server.http) == pid


def test_a_step_that_raises_leaves_nothing_behind():
    with breakable_server("batch_size=4") as server:
        pid = worker_pid(server.http)
        mates = [server.send("hang"), server.send("hang", stream=True)]
        server.wait_processing(2)
        assert post(server.http, "crash").status_code == 500
        assert [w.result().status_code for w in mates] == [500, 500]
        server.assert_nothing_left()
        assert worker_pid(server.http) == pid, "one failed step is no reason to load a model again"


def test_out_of_memory_is_met_by_smaller_steps_and_every_client_is_answered():
    with tight_server(rows=3) as server:
        alone = [text(post(server.http, f"text {i}", seed=i, max_tokens=32)) for i in range(6)]
        before = server.engine()["num_out_of_memory"]
        sent = [server.send(f"text {i}", seed=i, max_tokens=32) for i in range(6)]
        assert [text(w.result()) for w in sent] == alone
        assert server.engine()["num_out_of_memory"] > before
        server.assert_nothing_left()


def test_out_of_memory_of_one_row_is_an_error_that_says_so_and_the_server_goes_on():
    with tight_server(rows=0) as server:
        answer = post(server.http, "text", max_tokens=32)
        assert answer.status_code == 500
        assert "out of memory" in answer.json()["error"]["message"]
        assert post(server.http, "text", stream=True, max_tokens=32).status_code == 500
        assert server.http.get("/health").status_code == 200
        server.assert_nothing_left()


def tight_server(rows):
    """Real decoding on a device that runs out of memory beyond so many rows."""
    return breakable_server(
        "model=hf", f"model.path={REFERENCE}", "model.name=tight", "batch_size=8", "decoding=fast",
        command=TIGHT, env={"LLADA_TIGHT_ROWS": str(rows)},
    )  # fmt: skip


def test_death_of_the_queues_process_ends_the_server_and_nobody_hangs():
    """Nothing can be saved then; a supervisor must see it, and so must every client."""
    with breakable_server("batch_size=2") as server:
        found = processes(server.pid)
        workers = {w["pid"] for w in server.stats()["workers"]}
        waiting = [server.send("hang", stream=s) for s in (True, False)]
        server.wait_processing(2)
        (manager,) = [
            p for p in found if p.pid not in workers | {server.pid} and "resource_tracker" not in cmd(p)
        ]
        manager.kill()
        assert [w.result().status_code for w in waiting] == [503, 503]
        assert server.wait_end(30) == 1
        assert "the process that holds the queues died" in server.handle.log.read_text()
        assert left_over(found) == []


def cmd(process):
    return " ".join(process.cmdline())


def test_kills_again_and_again_leave_no_process_and_no_descriptor():
    with breakable_server("batch_size=2") as server:
        counts = []
        for i in range(3):
            assert wait_for(lambda: server.http.get("/health").status_code == 200, 60)
            assert post(server.http, "x").status_code == 200
            if i:
                counts.append((len(processes(server.pid)), psutil.Process(server.pid).num_fds()))
            os.kill(worker_pid(server.http), signal.SIGKILL)
            wait_for(lambda: server.http.get("/health").status_code == 503)
        assert max(counts) == min(counts), counts


def test_two_workers_one_killed_the_other_answers_meanwhile(record_property):
    with breakable_server("workers=2", "batch_size=2") as server:
        first, second = (w["pid"] for w in server.stats()["workers"])
        os.kill(first, signal.SIGSTOP)
        os.kill(first, signal.SIGKILL)
        assert [w.result().status_code for w in [server.send("x") for _ in range(4)]] == [200] * 4
        record_ready(server, record_property)
        assert server.stats()["workers"][1]["pid"] == second
        server.assert_nothing_left()
