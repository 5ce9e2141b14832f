"""Watches the servers of a pool: which take requests, which went, and when it is time to give up.

A server that has work, or should come back, is asked for its /health every few seconds; alive() may know
better, as of a process of one's own. Knows what runs at each server only as tasks to cancel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp

from llada_exp.clients.pool_server import CLOSED, DOWN, UP, PoolServer, look_at


class ServersGone(RuntimeError):
    """No server answers any more; the message says which and why."""


@dataclass(frozen=True)
class Pace:
    """Intervals in seconds. first, longest: between tries of a request, which double, times 0.5 to 1.5 by
    chance; longest_retry_after: that one is followed; poll: between looks at /health; health: for its
    answer; tick: between calls of alive(); tell: between lines of a wait. max_moves: servers that may go
    while they have a request, before it is suspected of ending them."""

    first: float = 0.5
    longest: float = 30.0
    longest_retry_after: float = 300.0
    poll: float = 2.0
    health: float = 5.0
    tick: float = 0.5
    tell: float = 30.0
    max_moves: int = 10


class Watch:
    """num_open: requests under way or waiting, counted by the owner; gone: done, with the reason, once
    there is no hope, upon which every task at a server is cancelled.

    Made inside of an event loop; `close` ends it.
    """

    def __init__(
        self,
        servers: Sequence[PoolServer],
        session: aiohttp.ClientSession,
        *,
        patience_s: float,
        alive: Callable[[], str | None],
        tell: Callable[[str], None],
        pace: Pace,
    ) -> None:
        self.servers = servers
        self.num_open = 0
        self._session = session
        self._patience_s = patience_s
        self._alive = alive
        self._tell = tell
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[str] = self._loop.create_future()
        self._news = asyncio.Event()
        self._stuck_since: float | None = None
        self._last_line_at = 0.0
        self._tasks = [asyncio.create_task(work) for work in (self._mind(), *map(self._poll, servers))]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def ready(self) -> list[PoolServer]:
        """Those that take requests, once there is one. Raises ServersGone."""
        while True:
            if self.gone.done():
                raise ServersGone(self.gone.result())
            if up := [server for server in self.servers if server.state == UP]:
                return up
            await self._news.wait()

    async def judge(self, server: PoolServer) -> bool:
        """Whether it takes requests, by a look that begins no earlier than now; all who ask at once
        share one."""
        now = self._loop.time()
        async with server.look:
            if server.looked_at < now and not self.gone.done():
                began = self._loop.time()
                self._note(server, *await look_at(self._session, server, self._pace.health))
                server.looked_at = began
        return server.state == UP

    def _note(self, server: PoolServer, state: str, reason: str) -> None:
        """Take over what was seen; act and tell where it is new."""
        before, server.state, server.reason = server.state, state, reason
        if state == before:
            return
        if state == DOWN:
            _cancel(server)
        elif state == UP:  # be it for less than a tick
            self._stuck_since = None
        others = any(other.state == UP for other in self.servers)
        where = "go to the others" if others else f"wait up to {self._patience_s:g} s for a server"
        moved = f": its {server.load} requests {where}" if server.load else ""
        words = {
            UP: "takes requests again",
            CLOSED: f"takes no new requests ({reason})",
            DOWN: f"does not answer ({reason}){moved}",
        }
        self._tell(f"{server.url} {words[state]}")
        self._wake()

    async def _poll(self, server: PoolServer) -> None:
        while True:
            await asyncio.sleep(self._pace.poll)
            if self.num_open and (server.flights or server.state != UP):
                await self.judge(server)

    async def _mind(self) -> None:
        while True:
            await asyncio.sleep(self._pace.tick)
            if self.num_open and (reason := self._alive()):
                self._give_up(reason)
            self._check_patience()

    def _check_patience(self) -> None:
        hope = any(server.state == UP or server.flights for server in self.servers)
        if hope or not self.num_open:
            self._stuck_since = None
            return
        now = self._loop.time()
        if self._stuck_since is None:
            self._stuck_since = self._last_line_at = now
        waited = now - self._stuck_since
        reasons = "; ".join(f"{server.url}: {server.reason}" for server in self.servers)
        if waited >= self._patience_s:
            self._give_up(f"no server took requests for {self._patience_s:g} s: {reasons}")
        elif now - self._last_line_at >= self._pace.tell:
            self._last_line_at = now
            self._tell(
                f"{self.num_open} requests have waited {waited:.0f} of {self._patience_s:g} s "
                f"for a server: {reasons}"
            )

    def _give_up(self, reason: str) -> None:
        if not self.gone.done():
            self.gone.set_result(reason)
            for server in self.servers:
                _cancel(server)
            self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A watch that fails, as by an alive() that raises, must not leave requests waiting for ever."""
        if not task.cancelled() and (error := task.exception()):
            self._give_up(f"the watch over the servers failed: {error!r}")


def _cancel(server: PoolServer) -> None:
    for flight in server.flights:
        flight.cancel()
