"""The pool at real servers that are killed and restarted: no answer changes for it."""

import asyncio
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from llada_exp.clients.pool import Pool, ServersGone
from llada_exp.jobs import running_server
from llada_exp.jobs.local import stop
from tests.pool.scripted import PATH, lasting_port
from tests.server.conftest import FAKE

SLOW = ["batch_size=4", "decoding=exact"]  # a token a step: a request lasts


def real_bodies(num):
    return [
        {"messages": [{"role": "user", "content": f"What is {i} + {i + 8}?"}], "seed": 100 + i,
         "temperature": 0.7, "max_tokens": 32}
        for i in range(num)
    ]  # fmt: skip


def real(urls, bodies, done=lambda exchange: None, **changes):
    """The exchanges in order; done: called with each as it comes."""
    lines = []
    kinds = {
        "key": None,
        "timeout_s": 120,
        "max_retries": 0,
        "patience_s": 60,
        "tell": lines.append,
    } | changes

    async def work():
        async with Pool(urls, **kinds) as pool:

            async def ask(body):
                exchange = await pool.post(PATH, body)
                done(exchange)
                return exchange

            return await asyncio.gather(*map(ask, bodies))

    return asyncio.run(asyncio.wait_for(work(), 200)), lines


def texts(exchanges):
    return [exchange.body["choices"][0]["message"]["content"] for exchange in exchanges]


@pytest.fixture(scope="module")
def tiny():
    with running_server(SLOW, start_timeout_s=120) as handle:
        yield handle


@pytest.fixture(scope="module")
def alone(tiny):
    """What one server says that nothing happens to."""
    said = texts(real([tiny.url], real_bodies(40))[0])
    assert len(set(said)) > 20, "the answers must be able to differ"
    return said


def test_a_server_killed_in_the_middle_changes_no_answer(tiny, alone):
    with running_server(SLOW, start_timeout_s=120) as other:
        killed = []

        def done(exchange):
            if exchange.url == other.url and not killed:
                os.kill(other.pid, signal.SIGKILL)
                killed.append(exchange)

        both, lines = real([tiny.url, other.url], real_bodies(40), done)
    assert [exchange.status for exchange in both] == [200] * 40
    assert texts(both) == alone
    assert killed, "the other server answered nothing before"
    assert sum(exchange.attempts > 1 for exchange in both) > 8
    assert any(line.startswith(f"{other.url} does not answer") for line in lines)


def test_a_server_that_is_restarted_on_its_port_goes_on_where_it_was(alone):
    # Told to stop at once it answers what it has with a 503, which is not the requests' fault.
    hasty = [*SLOW, "server.drain_seconds=0", f"port={lasting_port()}"]
    with ExitStack() as stack, ThreadPoolExecutor(1) as threads:
        first = stack.enter_context(running_server(hasty, start_timeout_s=120))
        again = []

        def restart():
            stop(first.process)
            return stack.enter_context(running_server(hasty, start_timeout_s=120))

        def done(exchange):
            if not again:
                again.append(threads.submit(restart))

        answers, lines = real([first.url], real_bodies(24), done)
        assert again[0].result(120).url == first.url
    assert [exchange.status for exchange in answers] == [200] * 24
    assert texts(answers) == alone[:24]
    assert sum(exchange.attempts > 1 for exchange in answers) > 8
    assert any(line.endswith("takes requests again") for line in lines)


def test_the_end_of_an_own_server_is_known_within_moments():
    with running_server(["batch_size=4"], command=FAKE, start_timeout_s=120) as own:

        def alive():
            code = own.process.poll()
            return None if code is None else f"the server's process ended with exit code {code}"

        threading.Timer(0.5, os.kill, (own.pid, signal.SIGKILL)).start()
        bodies = [{"messages": [{"role": "user", "content": "hang"}]}] * 8
        with pytest.raises(ServersGone, match="ended with exit code -9"):
            real([own.url], bodies, alive=alive, patience_s=1000)
