"""Servers that are not ready, restart, or are gone: what waits for them, what ends, and the law of it all."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llada_exp.clients.pool import ServersGone
from tests.pool.scripted import (
    FAST,
    PATH,
    Scripted,
    ask_all,
    die_for,
    drop,
    hang,
    healthy,
    ok,
    one,
    outcome,
    pooled,
    run,
    status,
    unready,
)

# -- servers that are there and not ready


@pytest.mark.parametrize("word", ["starting", "draining"])
def test_a_server_that_takes_nothing_keeps_what_it_has_and_gets_no_more(word):
    first, second = Scripted(ok(0.5), status(503, error_code="not_ready")), Scripted()
    first.health = unready(word)
    exchanges, lines = outcome(first, second, num=4, max_retries=0)
    assert [e.status for e in exchanges] == [200] * 4
    assert sum(e.url == first.url for e in exchanges) == 1, "its answer was thrown away"
    assert lines == [f"{first.url} takes no new requests (/health says 503: {word})"]


def test_a_degraded_server_is_used():
    server = Scripted(default=ok(0.3))
    server.health = unready("degraded")
    (exchange,), lines = outcome(server)
    assert (exchange.status, lines) == (200, [])


def test_a_worker_that_starts_anew_does_not_close_a_server_that_was_ready():
    # It queues what comes; elsewhere several workers would stand idle while one loads its model.
    server = Scripted(default=ok(0.5))
    looks = [healthy]

    async def health(own, body):
        return await (looks.pop() if looks else unready("starting", "1"))(own, body)

    server.health = health
    _, lines = outcome(server)
    assert not lines
    other = Scripted(default=ok(0.5))
    other.health = unready("starting", "2")
    _, lines = outcome(other)
    assert len(lines) == 1


def test_a_server_that_says_not_ready_and_is_ready_a_moment_later_costs_no_try():
    assert one(Scripted(status(503, error_code="not_ready")), max_retries=0).status == 200


# -- no server at all


def test_a_restart_of_the_only_server_is_waited_for():
    server = Scripted(hang, hang, die_for(0.5))
    exchanges, lines = outcome(server, num=3, max_retries=0)
    assert [e.status for e in exchanges] == [200] * 3
    assert lines[0].endswith(
        "does not answer (connection refused): its 3 requests wait up to 5 s for a server"
    )
    assert lines[-1] == f"{server.url} takes requests again"
    assert any("3 requests have waited" in line for line in lines), "a long wait must not be silent"


def test_patience_begins_anew_with_each_wait():
    server = Scripted(*[die_for(0.6)] * 3)
    assert one(server, patience_s=1.5).status == 200


def test_servers_that_stay_away_end_it_and_each_is_named_with_its_reason():
    first, second = Scripted(default=hang), Scripted(default=hang)
    second.health = unready("draining")

    async def work():
        async with pooled(first, second, patience_s=0.4) as pool:
            asking = asyncio.create_task(ask_all(pool, 6))
            await asyncio.sleep(0.2)
            await first.die()
            await second.die()
            with pytest.raises(ServersGone) as gone:
                await asking
            with pytest.raises(ServersGone):
                await pool.post(PATH, {})
            return str(gone.value)

    message = run(work())
    assert "no server took requests for 0.4 s" in message
    assert f"{first.url}: connection refused" in message
    assert f"{second.url}: connection refused" in message


def test_what_is_known_of_an_own_server_ends_it_at_once_for_all():
    server, words = Scripted(default=hang), []

    async def work():
        async with pooled(
            server, patience_s=1000, timeout_s=1000, alive=lambda: (words or [None])[0]
        ) as pool:
            asking = [asyncio.create_task(pool.post(PATH, {})) for _ in range(5)]
            await asyncio.sleep(0.1)
            words.append("the server's process ended with exit code 1")
            return await asyncio.gather(*asking, return_exceptions=True)

    errors = run(work())
    assert [type(error) for error in errors] == [ServersGone] * 5
    assert {str(error) for error in errors} == {"the server's process ended with exit code 1"}


def test_a_watch_that_breaks_leaves_nobody_waiting():
    def alive():
        raise KeyError("a bug")

    with pytest.raises(ServersGone, match="a bug"):
        outcome(Scripted(default=hang), alive=alive)


def test_a_request_that_ends_every_server_is_given_up():
    # Else it would end servers that a supervisor restarts for ever.
    server = Scripted(*[die_for(0.05)] * 20)
    exchange = one(server, max_retries=0)
    assert exchange.status == 0
    assert exchange.attempts == FAST.max_moves + 1
    assert "11 times its server went" in exchange.body["error"]["message"]


def test_a_caller_that_leaves_takes_its_request_along():
    server = Scripted(default=hang)

    async def work():
        async with pooled(server) as pool:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pool.post(PATH, {}), 0.2)
            await asyncio.sleep(0.2)
            return server.num_left, server.now

    assert run(work()) == (1, 0)


# -- the law

FAULTS = st.sampled_from(
    [ok(), ok(0.03), status(500), status(503), status(429), status(200, "{"), drop, die_for(0.1), hang]
)


@settings(max_examples=25, deadline=None)
@given(script=st.lists(FAULTS, max_size=12), num=st.integers(1, 12), use_both=st.booleans())
def test_every_request_has_one_end_and_it_is_good_while_one_server_is_well(script, num, use_both):
    bad, good = Scripted(*script), Scripted(default=ok(0.01))
    servers = [bad, good] if use_both else [bad]
    exchanges, _ = outcome(*servers, num=num, timeout_s=0.5, max_retries=12)
    assert [e.status for e in exchanges] == [200] * num
    assert [e.body["n"] for e in exchanges] == list(range(num)), "an answer went to another's request"
    assert sum(e.attempts for e in exchanges) >= len(bad.bodies) + len(good.bodies)
