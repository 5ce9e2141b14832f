"""A worker's work, and its turns, against the fake engine: no process, no queue server."""

import time

import pytest
import torch

from llada_exp.engine.errors import DoesNotFitError, NotFiniteError
from llada_exp.fields import DecodingError
from llada_exp.server.processes.engine_turns import MAX_FAILED_STEPS, EngineTurns
from llada_exp.server.processes.fair_queue import FairQueue
from llada_exp.server.processes.messages import STOP
from llada_exp.server.processes.worker import Backend, Worker
from llada_exp.server.routes.answer import take_in
from llada_exp.server.routes.errors import ApiError
from llada_exp.server.routes.replies import Choice
from llada_exp.types import DecodingParams
from tests.server.fakes import FakeEngine, FakeTokenizer


class Wire:
    """What goes out, and what the API process would have shared."""

    def __init__(self, batch_size=4, max_wait_s=0.0, **backend):
        parts = {"engine": FakeEngine(batch_size), "tokenizer": FakeTokenizer()} | backend
        self.engine = parts["engine"]
        self.worker = Worker(Backend(**parts), worker_id=0)
        self.queue = FairQueue()
        self.sent = []
        self.cancelled = set()
        self.reports = []
        self.turns = EngineTurns(self.worker, self.queue, self.send, self, max_wait_s)

    def send(self, message):
        self.sent.append(message)

    def take_cancelled(self, uids):
        mine = self.cancelled & uids
        self.cancelled -= mine
        return mine

    def beat(self, worker_id, load):
        pass

    def may_take(self, worker_id, load):
        return True

    def report(self, worker_id, **state):
        self.reports.append(state)

    def put(self, uid, text="hello", stream=False, submitted=None, **params):
        job = {"kind": "text", "prompt": text, "params": DecodingParams(**params), "stream": stream}
        self.queue.put((uid, time.monotonic() if submitted is None else submitted, job))

    def run(self, turns=20):
        for _ in range(turns):
            if not self.queue.qsize() and not self.engine.has_work():
                break
            self.turns.run_one()
        return self

    def of(self, uid):
        return [m for m in self.sent if m["uid"] == uid]

    def kinds(self, uid):
        return [m["kind"] for m in self.of(uid)]


def test_a_job_is_admitted_and_done():
    wire = Wire()
    wire.put("a", "hello")
    wire.run()
    assert wire.kinds("a") == ["admitted", "done"]
    done = wire.of("a")[-1]
    assert done["text"] == "hello @0"
    assert (done["prompt_tokens"], done["completion_tokens"], done["finish_reason"]) == (5, 8, "stop")


def test_streamed_pieces_join_to_the_unstreamed_text():
    wire = Wire()
    wire.put("s", "some text", stream=True, stop=("xyz",))
    wire.put("w", "some text", stop=("xyz",))
    wire.run()
    assert wire.kinds("s").count("piece") >= 2
    assert "".join(m.get("text", "") for m in wire.of("s")) == wire.of("w")[-1]["text"]


def test_a_stop_string_is_cut_and_never_sent_in_part():
    wire = Wire()
    wire.put("s", "one two three", stream=True, stop=("two",))
    wire.run()
    assert "".join(m.get("text", "") for m in wire.of("s")) == "one "
    assert wire.of("s")[-1]["finish_reason"] == "stop"


def test_a_bad_job_fails_alone():
    wire = Wire()
    wire.put("good")
    wire.put("empty", "")
    wire.put("long", max_tokens=100_000)
    wire.run()
    assert wire.kinds("good") == ["admitted", "done"]
    assert [wire.of(u)[0]["status"] for u in ("empty", "long")] == [400, 400]
    assert wire.of("long")[0]["code"] == "context_length_exceeded"


def test_a_step_that_raises_fails_the_jobs_in_it_and_the_next_are_answered():
    wire = Wire()
    wire.put("a", "crash")
    wire.put("b", "innocent")
    wire.run()
    assert [wire.of(u)[-1]["status"] for u in ("a", "b")] == [500, 500]
    wire.put("c")
    wire.run()
    assert wire.kinds("c") == ["admitted", "done"]


def test_a_job_whose_own_pass_fails_fails_alone_and_says_why():
    wire = Wire()
    wire.put("a", "fail")
    wire.put("b", "innocent")
    wire.run()
    assert [wire.of(u)[-1]["kind"] for u in ("a", "b")] == ["failed", "done"]
    failed = wire.of("a")[-1]
    assert failed["status"] == 500
    assert "RuntimeError: a row failed" in failed["message"]


def test_a_client_that_repeats_a_failing_job_ends_no_worker():
    """Prevents three such requests in a row from costing everybody a restart, and thirty the server."""
    wire = Wire()
    for i in range(4 * MAX_FAILED_STEPS):
        wire.put(str(i), "fail")
        assert wire.turns.run_one()
        assert wire.kinds(str(i)) == ["admitted", "failed"]


def test_a_lost_device_ends_the_worker_at_once_and_its_jobs_may_be_sent_again():
    wire = Wire()
    wire.put("a", "lost")
    wire.put("b", "innocent")
    wire.engine.abort_all = lambda: pytest.fail("it would copy K/V on a device that answers nothing")
    assert not wire.turns.run_one()
    assert [wire.of(u)[-1]["status"] for u in ("a", "b")] == [503, 503]


def test_errors_of_the_engine_reach_the_client_in_its_words():
    for error in (NotFiniteError(torch.float16), DoesNotFitError()):
        wire = Wire()
        wire.engine.step = lambda on_failure, error=error: [on_failure(uid, error) for uid in ["a"]] and []
        wire.put("a")
        wire.turns.run_one()
        assert str(error) in wire.of("a")[-1]["message"]
    assert "float16" in str(NotFiniteError(torch.float16))


def test_a_worker_whose_steps_all_fail_ends_itself():
    """A broken device stays broken: a new process is the remedy."""
    wire = Wire()
    turns = []
    for i in range(MAX_FAILED_STEPS):
        wire.put(str(i), "crash")
        turns.append(wire.turns.run_one())
    assert turns == [True] * (MAX_FAILED_STEPS - 1) + [False]


def test_a_cancelled_job_leaves_the_engine_at_the_next_turn():
    wire = Wire()
    wire.put("a", "hang")
    wire.run(turns=2)
    wire.cancelled.add("a")
    wire.turns.run_one()
    assert wire.engine.aborted == ["a"]
    assert not wire.engine.has_work()


def test_a_job_cancelled_while_queued_never_starts():
    wire = Wire()
    wire.cancelled.add("a")
    wire.put("a")
    wire.run()
    assert wire.sent == []


def test_jobs_join_rows_in_flight_at_every_step():
    wire = Wire()
    wire.put("slow one", "a long text of many steps")
    wire.turns.run_one()
    wire.put("late", "x")
    wire.run()
    assert wire.engine.batches[2] >= 1
    assert wire.kinds("late") == ["admitted", "done"]


def test_no_more_is_pulled_than_there_are_rows():
    """What stays in the queue can be taken by another worker."""
    wire = Wire(batch_size=2)
    for i in range(5):
        wire.put(str(i), "hang")
    wire.run(turns=3)
    assert (len(wire.engine.rows), wire.queue.qsize()) == (2, 3)


@pytest.mark.parametrize(("waited", "left"), [(0.0, 0.3), (0.15, 0.15), (10.0, 0.0)])
def test_the_wait_for_company_counts_from_the_first_jobs_submission(waited, left):
    """LitServe's own window runs freely: a job may wait anything between nothing and all of it."""
    wire = Wire(max_wait_s=0.3)
    wire.put("a", submitted=time.monotonic() - waited)
    start = time.monotonic()
    wire.turns.run_one()
    assert left - 0.05 <= time.monotonic() - start < left + 0.1


def test_a_full_batch_does_not_wait():
    wire = Wire(batch_size=2, max_wait_s=5.0)
    wire.put("a")
    wire.put("b")
    start = time.monotonic()
    wire.turns.run_one()
    assert time.monotonic() - start < 1
    assert wire.engine.batches == {2: 1}


def test_figures_are_reported_before_the_answer_is_sent():
    """Whoever has an answer finds it counted in /batch/stats."""
    wire = Wire()
    order = []
    wire.send = lambda *_: order.append("sent")
    wire.turns = EngineTurns(wire.worker, wire.queue, wire.send, wire, 0.0)
    wire.report = lambda *_, **__: order.append("reported")
    wire.turns._reported = time.monotonic() + 100
    wire.put("a", "")
    wire.put("b", "x")
    wire.run()
    assert order[-2:] == ["reported", "sent"]


def test_the_stop_item_ends_the_worker_and_tells_who_waits():
    wire = Wire()
    wire.put("a", "hang")
    wire.turns.run_one()
    wire.queue.put(STOP)
    assert wire.turns.run_one() is False
    assert wire.of("a")[-1]["status"] == 503


def test_a_field_that_the_model_rules_out_is_named_to_the_client(monkeypatch):
    """Prevents a 400 without `param`, by which clients find the field at fault."""
    wire = Wire()

    def add_request(*arguments, **named):
        raise DecodingError("cache is 'dual'; expected none or prefix", "cache")

    monkeypatch.setattr(wire.engine, "add_request", add_request)
    wire.put("a")
    (message,) = wire.run().of("a")
    with pytest.raises(ApiError) as raised:
        take_in(Choice(0, 0, 0), message)
    assert raised.value.body()["error"] == {
        "message": "cache is 'dual'; expected none or prefix",
        "type": "invalid_request_error",
        "param": "cache",
        "code": "invalid_value",
    }
