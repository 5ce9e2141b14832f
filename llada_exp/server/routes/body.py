"""From a connection to a checked body: what one client sends must not hold up the others.

A short body is read and parsed where it arrives. A longer one takes one of a few turns to be read at all, and
is parsed in a process of its own. Either is counted before it is parsed.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Any, TypeVar

from fastapi import Request

from llada_exp.server.processes.side_process import SideProcess, SideProcessError
from llada_exp.server.routes.body_shape import check_shape
from llada_exp.server.routes.errors import ApiError
from llada_exp.server.routes.prompt_room import PromptRoom
from llada_exp.server.routes.schema import Generation, parse

SHORT = 2**13
"""Bytes; of longer bodies one is parsed in each round of the event loop, however many have come."""
LONG = 2**17
"""Bytes; of a longer body no byte more is read before its turn has come."""
NUM_TURNS = 4
PARSED_S = 60.0
MAX_GROWTH = 24
"""Bytes of memory for each of the longest body, beside what any takes."""
ANY_BYTES = 2**30

Body = TypeVar("Body", bound=Generation)


class Turn:
    """Of one request, to hold much memory until its prompts are tokens; nothing where it never begins."""

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns = turns
        self._holds = False

    async def begin(self) -> None:
        await self._turns.acquire()
        self._holds = True

    def close(self) -> None:
        if self._holds:
            self._holds = False
            self._turns.release()


class BodyReader:
    """max_bytes: of a body."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._turns = asyncio.Semaphore(NUM_TURNS)
        self._round = asyncio.Lock()
        self._parser = SideProcess(parsed, PARSED_S, ANY_BYTES + MAX_GROWTH * max_bytes)

    def turn(self) -> Turn:
        """To be closed once the body's prompts are wanted no more."""
        return Turn(self._turns)

    async def read(
        self, http: Request, turn: Turn, kind: type[Body], room: PromptRoom | None, *settings: Any
    ) -> Body:
        """The checked body; settings: of `parse`. The turn of a long one has begun then. Raises ApiError: 400
        for a wrong body, 413 for too long a one, 503 where the process that parses dies."""
        stream = http.stream()
        chunks: list[bytes] = []
        size = 0
        async for chunk in stream:
            chunks.append(chunk)
            if (size := size + len(chunk)) > LONG:
                break
        else:
            async with self._round if size > SHORT else nullcontext():
                await asyncio.sleep(0)
                return _unpacked(parsed(b"".join(chunks), kind, room, *settings))
        await turn.begin()
        self._check_length(size)
        async for chunk in stream:
            chunks.append(chunk)
            self._check_length(size := size + len(chunk))
        try:
            return _unpacked(await self._parser.call(chunks, kind, room, *settings))
        except SideProcessError as error:
            raise ApiError(503, f"the body cannot be read now: {error}") from None

    async def close_at_end(self) -> None:
        await self._parser.close_at_end()

    def _check_length(self, num_bytes: int) -> None:
        if num_bytes > self.max_bytes:
            raise ApiError(413, f"the body has more than {self.max_bytes} bytes")


def parsed(body: bytes, kind: type[Body], room: PromptRoom | None, *settings: Any) -> Body | dict[str, Any]:
    """The checked body, or the fields of the ApiError: they go from one process to another."""
    try:
        check_shape(body)
        request = parse(kind, body, *settings)
        if room is not None:
            room.check(request)
    except ApiError as error:
        return vars(error)
    return request


def _unpacked(result: Body | dict[str, Any]) -> Body:
    if isinstance(result, dict):
        raise ApiError(**result)
    return result
