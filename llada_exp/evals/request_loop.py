"""Many requests at once through a pool: each sent once, its response handed on, and an early end where
going on is of no use.

Knows OpenAI's protocol and what our server adds to it; no problems and no scores.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from llada_exp.clients.http import KEY_VARIABLE
from llada_exp.clients.pool import Pool, PoolResponse
from llada_exp.clients.reply import ReadReply, error_text, read_reply
from llada_exp.evals.decoding_check import difference

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
NUM_REFUSED = 8
"""So many requests refused before any was answered are no accident of their problems."""
Item = TypeVar("Item")


class Refused(RuntimeError):
    """The endpoint will answer none of the requests as they are meant; the message says why."""


class EarlyStop:
    """Whether going on is of any use. fields: of decoding, of every request, which the server must use."""

    def __init__(self, fields: Mapping[str, Any] | None = None) -> None:
        self.fields = fields or {}
        self.num_answered = self.num_refused = 0

    def check(self, response: PoolResponse) -> None:
        """Raises Refused."""
        if response.status in (401, 403):
            raise Refused(
                f"{response.url} refuses the key ({message(response)}); it comes from {KEY_VARIABLE}"
            )
        reply = _reply(response)
        if not isinstance(reply, str):
            self.num_answered += 1
            if reply.decoding and (reason := difference(self.fields, [reply.decoding])) is not None:
                raise Refused(reason)
        elif 400 <= response.status < 500:
            self.num_refused += 1
        if not self.num_answered and self.num_refused >= NUM_REFUSED:
            raise Refused(
                f"{response.url} refused the first {self.num_refused} requests; the last with "
                f"{response.status}: {reply}"
            )


async def ask_all(
    pool: Pool,
    items: Sequence[Item],
    concurrency: int,
    request: Callable[[Item], tuple[str, dict[str, Any]]],
    done: Callable[[Item, Mapping[str, Any], PoolResponse], Awaitable[None]],
    stop: EarlyStop,
) -> None:
    """Each item's request once. request: its path and body; done: gets its body and what became of it, as
    they come.

    Raises ServersGone where no server answers any more, Refused where none will.
    """
    waiting = iter(items)  # shared: each client takes the next one

    async def client() -> None:
        for item in waiting:
            path, body = request(item)
            response = await pool.post(path, body)
            stop.check(response)
            await done(item, body, response)

    async with pool:
        clients = [asyncio.create_task(client()) for _ in range(min(concurrency, len(items)))]
        try:
            await asyncio.gather(*clients)
        finally:
            for task in clients:
                task.cancel()
            await asyncio.gather(*clients, return_exceptions=True)


def read_answer(response: PoolResponse) -> dict[str, Any]:
    """The fields of an Answer that a response gives; error: why it is none, None where it is one."""
    sent = {"e2el_ms": round(1000 * response.seconds, 3), "url": response.url, "attempts": response.attempts}
    reply = _reply(response)
    if isinstance(reply, str):
        return {**sent, "response": "", "error": f"{response.status}: {reply}"}
    return {
        **sent,
        "response": reply.text,
        "error": None,
        "finish_reason": reply.finish_reason,
        "prompt_tokens": reply.prompt_tokens,
        "output_tokens": reply.output_tokens,
        "nfe": reply.cost.get("nfe"),
        "num_positions": reply.cost.get("num_positions"),
        "decoding": {name: value for name, value in reply.decoding.items() if name != "seed"},
    }


def _reply(response: PoolResponse) -> ReadReply | str:
    """A text where it is no answer: why."""
    if response.status != 200:
        return message(response)
    try:
        return read_reply(response.body)
    except ValueError as error:
        return str(error)


def message(response: PoolResponse) -> str:
    """What an error's body says."""
    return error_text(response.body)
