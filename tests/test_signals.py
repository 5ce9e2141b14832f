"""Every signal that means "end" ends a process in order, and what it started with it."""

import asyncio
import gc
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from llada_exp.signals import ENDING, EndedBySignal, Starter, deferred, run_in_loop, terminable, with_starter
from tests.server.conftest import ROOT


@pytest.fixture(autouse=True)
def as_in_a_shell():
    """Handlers as a program finds them that is started by hand: whoever runs the tests may ignore signals,
    and other tests of this process may have left handlers."""
    before = {n: signal.signal(n, signal.SIG_DFL) for n in ENDING}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


def python(code, *words, **options):
    env = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    command = [sys.executable, "-c", textwrap.dedent(code), *words]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_is_an_exception_with_the_shells_exit_code_and_handlers_are_put_back(number):
    before = signal.getsignal(number)
    with pytest.raises(EndedBySignal) as end, terminable():
        signal.raise_signal(number)
    assert end.value.code == 128 + number
    assert str(pickle.loads(pickle.dumps(end.value))) == signal.Signals(number).name
    assert signal.getsignal(number) == before


def test_a_second_signal_does_not_disturb_what_is_put_away():
    steps = []

    def run():
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            with terminable():  # a task of the same program
                signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            steps.append("put away")

    with pytest.raises(EndedBySignal), terminable():
        run()
    assert steps == ["put away"]


def test_a_signal_ends_an_event_loop():
    async def work():
        asyncio.get_running_loop().call_later(0.05, signal.raise_signal, signal.SIGHUP)
        await asyncio.sleep(30)

    with pytest.raises(EndedBySignal), terminable():
        asyncio.run(work())


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_in_a_tasks_own_code_ends_a_loop_without_a_traceback_of_asyncios(number, caplog):
    """Prevents "Task exception was never retrieved" and its traceback below the one line for people."""
    num_begun, num_whole, ends = 0, 0, []

    async def client():
        nonlocal num_begun, num_whole
        try:
            while True:
                await asyncio.sleep(0)
                num_begun += 1
                signal.raise_signal(number)  # between two lines of the task, as while a row is written
                num_whole += 1
        finally:
            ends.append("put away")

    async def work():
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(client())

    with pytest.raises(EndedBySignal) as end, terminable():
        run_in_loop(work())
    assert end.value.signal == number
    assert len(ends) == 3
    assert num_whole == num_begun
    gc.collect()
    assert not caplog.records


def test_a_loop_that_no_signal_ends_gives_its_result_and_its_error():
    async def work(fails):
        await asyncio.sleep(0)
        if fails:
            raise ValueError("so")
        return 7

    assert run_in_loop(work(False)) == 7
    with pytest.raises(ValueError, match="so"):
        run_in_loop(work(True))


def test_a_signal_that_a_launcher_handles_does_not_cancel_a_loops_work():
    """Prevents an evaluation that ends, and says nothing, for a signal that somebody else answers."""
    heard = []

    async def work():
        signal.raise_signal(signal.SIGUSR1)
        await asyncio.sleep(0.05)
        return "whole"

    signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))  # put back by as_in_a_shell
    with terminable():
        assert run_in_loop(work()) == "whole"
    assert heard == [signal.SIGUSR1]


def test_a_signal_that_comes_before_the_work_begins_ends_it(monkeypatch):
    async def work():
        await asyncio.sleep(30)

    started = asyncio.run

    def slowly(coroutine):
        signal.raise_signal(signal.SIGTERM)
        return started(coroutine)

    monkeypatch.setattr(asyncio, "run", slowly)
    with pytest.raises(EndedBySignal), terminable():
        run_in_loop(work())


def test_three_ctrl_c_end_a_loop_that_does_not_yield():
    process = python(
        """
        import signal, time
        from llada_exp.signals import run_in_loop, terminable

        async def work():
            for _ in range(600):
                time.sleep(0.1)
                print("on", flush=True)

        with terminable():
            run_in_loop(work())
        """
    )
    assert process.stdout.readline()
    for _ in range(3):
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
    assert process.wait(20) == 128 + signal.SIGINT


def test_what_is_ignored_stays_ignored_as_nohup_wants_it():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminable(), deferred():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_handler_of_a_launcher_keeps_its_signal_but_for_sigterm():
    calls = []
    old = {n: signal.signal(n, lambda n, f: calls.append(n)) for n in (signal.SIGUSR2, signal.SIGTERM)}
    try:
        with terminable():
            signal.raise_signal(signal.SIGUSR2)
            with pytest.raises(EndedBySignal):
                signal.raise_signal(signal.SIGTERM)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    assert calls == [signal.SIGUSR2]


def test_a_deferred_signal_comes_at_the_end_of_the_block():
    steps = []

    def run():
        with deferred(lambda: steps.append("told")):
            signal.raise_signal(signal.SIGTERM)
            steps.append("end")
        steps.append("never")

    with pytest.raises(EndedBySignal), terminable():
        run()
    assert steps == ["told", "end"]


def test_elsewhere_than_in_the_main_thread_nothing_is_touched():
    before = [signal.getsignal(number) for number in ENDING]
    seen = []

    def work():
        with terminable(), deferred():
            seen.extend(signal.getsignal(number) for number in ENDING)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == before


def test_a_starter_that_is_there_is_killed_or_was_never_named():
    assert not Starter({}).is_gone()
    assert not Starter(with_starter()).is_gone()
    child = subprocess.Popen(["sleep", "60"])
    starter = Starter({"LLADA_STARTER_PID": str(child.pid)})
    assert not starter.is_gone()
    child.kill()
    until = time.monotonic() + 10
    while not starter.is_gone() and time.monotonic() < until:
        time.sleep(0.02)
    assert starter.is_gone(), "before anybody has waited for it, too"
    child.wait()
    assert Starter({"LLADA_STARTER_PID": str(child.pid)}).is_gone()


RUN = """
    import sys, time
    from llada_exp.jobs import running_server
    command = [sys.executable, "-m", "tests.server.fake_serve"]
    with running_server(["batch_size=2"], command=command, folder=sys.argv[1]) as server:
        print(server.pid, flush=True)
        time.sleep(600)
"""


def is_running(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("signals", [[signal.SIGHUP], [signal.SIGINT, signal.SIGINT], [signal.SIGKILL]])
def test_a_server_ends_with_the_process_that_started_it(signals, tmp_path):
    """Prevents servers that a closed terminal, an impatient hand or an OOM killer leave for ever."""
    process = python(RUN, str(tmp_path), stderr=subprocess.DEVNULL)
    pid = int(process.stdout.readline())
    for number in signals:
        process.send_signal(number)
        time.sleep(0.05)
    process.wait(60)
    until = time.monotonic() + 30
    while is_running(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_running(pid)
    workers = [line for line in (tmp_path / "server.log").read_text().splitlines() if "Traceback" in line]
    assert not workers
    process.stdout.close()
